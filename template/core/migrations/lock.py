"""The lock in MongoDB that lets one process at a time migrate."""

import asyncio
import secrets
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from datetime import UTC, datetime
from typing import Any

from pymongo.errors import PyMongoError

from core.cancelling import cancel_all
from core.logging import get_logger
from core.migrations.files import MigrationError
from core.models import MigrationLockModel

logger = get_logger(__name__)

NAME = "migrate"
LEASE_SECONDS = 60.0
"""If a process is killed, its lock expires after this time."""
POLL_SECONDS = 1.0
FREE = datetime(2000, 1, 1, tzinfo=UTC)
LOST = (
    "Another process took the lock, because this one was stopped or had no connection for"
    f" {LEASE_SECONDS:g} s. Look at `just migrate --check`, and run the command again."
)
IS_FREE = {"$expr": {"$lt": ["$until", "$$NOW"]}}  # the clock of MongoDB's server


@asynccontextmanager
async def hold_lock(on_wait: Callable[[], None]) -> AsyncIterator[None]:
    """Hold the lock for a block. Wait until it is free.

    Args:
        on_wait: Called once if another process holds the lock.

    Raises:
        MigrationError: Another process took the lock. The block was cancelled.
    """
    owner = secrets.token_hex(8)
    lock = MigrationLockModel.get_pymongo_collection()
    first = {"owner": "", "until": FREE}
    await lock.update_one({"_id": NAME}, {"$setOnInsert": first}, upsert=True)
    is_told = False
    while not await _write(IS_FREE, owner):
        if not is_told:
            on_wait()
            is_told = True
        await asyncio.sleep(POLL_SECONDS)
    try:
        async with asyncio.timeout(None) as limit:
            extending = asyncio.create_task(_extend(owner, limit))
            try:
                yield
            finally:
                await cancel_all([extending])
    except TimeoutError:
        if not limit.expired():
            raise
        raise MigrationError(LOST) from None
    finally:
        # If the server is down, the lock expires. The error of the block says what went wrong.
        with suppress(PyMongoError):
            await lock.update_one({"_id": NAME, "owner": owner}, {"$set": {"until": FREE}})


async def _write(condition: dict[str, Any], owner: str) -> bool:
    """Take or extend the lock if a condition is met. Return whether this process holds it."""
    until = {"$add": ["$$NOW", int(LEASE_SECONDS * 1000)]}
    lock = MigrationLockModel.get_pymongo_collection()
    change = [{"$set": {"owner": owner, "until": until}}]
    result = await lock.update_one({"_id": NAME, **condition}, change)
    return result.matched_count == 1


async def _extend(owner: str, limit: asyncio.Timeout) -> None:
    """Extend the lock. End the block if another process has taken it."""
    while True:
        await asyncio.sleep(LEASE_SECONDS / 4)
        try:
            if not await _write({"owner": owner}, owner):
                limit.reschedule(asyncio.get_running_loop().time())
                return
        except PyMongoError as error:
            logger.warning("the lock of migrations was not extended", error=str(error))

"""The lock in MongoDB that lets one process at a time migrate."""

import asyncio
import secrets
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import Any

from pymongo.errors import PyMongoError

from core.cancelling import cancel_all
from core.logging import get_logger
from core.models import MigrationLockModel

logger = get_logger(__name__)

NAME = "migrate"
LEASE_SECONDS = 60.0
"""If a process is killed, its lock expires after this time."""
POLL_SECONDS = 1.0
FREE = datetime(2000, 1, 1, tzinfo=UTC)
IS_FREE = {"$expr": {"$lt": ["$until", "$$NOW"]}}  # the clock of MongoDB's server


@asynccontextmanager
async def hold_lock(on_wait: Callable[[], None]) -> AsyncIterator[None]:
    """Hold the lock for a block. Wait until it is free.

    Args:
        on_wait: Called once if another process holds the lock.
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
    extending = asyncio.create_task(_extend(owner))
    try:
        yield
    finally:
        await cancel_all([extending])
        await lock.update_one({"_id": NAME, "owner": owner}, {"$set": {"until": FREE}})


async def _write(condition: dict[str, Any], owner: str) -> bool:
    """Take or extend the lock if a condition is met. Return whether this process holds it."""
    until = {"$add": ["$$NOW", int(LEASE_SECONDS * 1000)]}
    lock = MigrationLockModel.get_pymongo_collection()
    change = [{"$set": {"owner": owner, "until": until}}]
    result = await lock.update_one({"_id": NAME, **condition}, change)
    return result.matched_count == 1


async def _extend(owner: str) -> None:
    while True:
        await asyncio.sleep(LEASE_SECONDS / 4)
        try:
            await _write({"owner": owner}, owner)
        except PyMongoError as error:
            logger.warning("the lock of migrations was not extended", error=str(error))

"""What a worker does beside running jobs, again and again."""

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress

from beanie.exceptions import CollectionWasNotInitialized
from pymongo.errors import PyMongoError

from core.logging import get_logger
from core.tasks.errors import QueueUnavailable

logger = get_logger(__name__)

OUTAGE = (PyMongoError, CollectionWasNotInitialized, QueueUnavailable)
"""What is raised while MongoDB or the queue's server is down."""


async def keep_doing(
    what: str, work: Callable[[], Awaitable[None]], every: float, wake: asyncio.Event | None = None
) -> None:
    """Do something for as long as this process runs. Neither an outage nor an error ends it.

    Args:
        what: For the log, such as `dead letters`.
        work: Is awaited again and again.
        every: Seconds between two times.
        wake: Set it to have it done at once.
    """
    wake = wake or asyncio.Event()
    told = False
    while True:
        wake.clear()
        try:
            await work()
            told = False
        except OUTAGE as error:
            if not told:  # once an outage
                logger.warning(f"{what} wait for a server", error=str(error)[:200])
            told = True
        except Exception:
            logger.exception(f"{what} could not be seen to, trying again")
        # Not by `wait_for`, which in Python 3.11 may lose the cancellation that is to end this loop.
        with suppress(TimeoutError):
            async with asyncio.timeout(every):
                await wake.wait()

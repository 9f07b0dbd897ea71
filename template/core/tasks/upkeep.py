"""The work that a worker repeats while it runs jobs."""

import asyncio
from collections.abc import Awaitable, Callable, Set
from contextlib import suppress

from beanie.exceptions import CollectionWasNotInitialized
from pymongo.errors import PyMongoError

from core.database import summarize_error
from core.logging import get_logger
from core.tasks.errors import QueueUnavailable

logger = get_logger(__name__)

# The pauses between two rounds of each work.
ABORT_SECONDS = 0.5
MOVE_SECONDS = 5.0
TICK_SECONDS = 0.5
RELAY_SECONDS = 2.0
WRITE_SECONDS = 1.0
CHECK_SECONDS = 5.0
MONITOR_SECONDS = 30.0
HEARTBEAT_SECONDS = 10.0
MINUTES_SECONDS = 5.0  # after an error; otherwise until the end of the minute

OUTAGE = (PyMongoError, CollectionWasNotInitialized, QueueUnavailable)
"""The errors that are raised while MongoDB or the queue's server is down."""


def is_being_cancelled() -> bool:
    """Return whether somebody has cancelled the current asyncio task."""
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0


async def finish_jobs(running: Set[asyncio.Task[None]], grace_period: float) -> None:
    """Give the running jobs of a worker their grace period, and then cancel them.

    Args:
        running: The jobs. Each one must end when it is cancelled.
        grace_period: Seconds to wait.
    """
    if not running:
        return
    _, late = await asyncio.wait(running, timeout=grace_period)
    for task in late:
        task.cancel()
    if late:
        logger.warning("jobs cancelled: they exceeded the grace period", count=len(late))
        await asyncio.wait(late)


async def finish(name: str, work: Callable[[], Awaitable[object]]) -> None:
    """Do some work for the last time when a worker ends. Errors are logged, not raised.

    Args:
        name: A name for the log, such as `dead letters`.
        work: The work.
    """
    try:
        with suppress(*OUTAGE):
            await work()
    except Exception:
        logger.exception(f"{name} failed at the end")


async def repeat(
    name: str,
    work: Callable[[], Awaitable[object]],
    seconds: float,
    wake: asyncio.Event | None = None,
) -> None:
    """Repeat some work until cancelled. Neither an outage nor an error ends it.

    Args:
        name: A name for the log, such as `dead letters`.
        work: The work. If it returns a float, this is the pause before the next round.
        seconds: The pause otherwise, as after an error.
        wake: Ends the pause when it is set.
    """
    wake = wake or asyncio.Event()
    is_logged = False
    while True:
        wake.clear()
        pause = seconds
        try:
            found = await work()
            if isinstance(found, float):
                pause = found
            is_logged = False
        except OUTAGE as error:
            if not is_logged:  # log each outage once
                reason = summarize_error(error)
                logger.warning(f"{name} wait for a server", error=reason)
            is_logged = True
        except Exception:
            logger.exception(f"{name} failed, trying again")
        # PyMongo may swallow a cancellation. Without this check, the loop would never end.
        if is_being_cancelled():
            raise asyncio.CancelledError
        # Not `wait_for`: in Python 3.11 it may lose the cancellation that ends this loop.
        with suppress(TimeoutError):
            async with asyncio.timeout(pause):
                await wake.wait()

"""Time limits: a job's function is cancelled at its limit, and abandoned if it does not end."""

import asyncio
import logging
import os
from collections.abc import Coroutine
from contextvars import copy_context
from typing import Any

from anyio import CancelScope

from core.logging import get_logger

logger = get_logger(__name__)

CLEANUP_SECONDS = 5.0
"""A cancelled function that takes longer to end is abandoned."""

_abandoned: set[asyncio.Task[Any]] = set()


class LimitedCall:
    """A call of a job's function. It begins when this object is made.

    Args:
        call: The coroutine of the call.
        soft: Seconds after which the function is cancelled.
        hard: Seconds after which the attempt has failed, whatever the function does.
    """

    def __init__(self, call: Coroutine[Any, Any, Any], soft: float, hard: float) -> None:
        self._soft = soft
        self._hard = hard
        self._context = copy_context()
        self._task = asyncio.create_task(_catch_exit(call), context=self._context)

    def cancel(self) -> None:
        """Cancel the function."""
        self._task.cancel()

    async def result(self) -> Any:
        """Wait for the function, and return its result.

        Raises:
            TimeoutError: The function took longer than a limit.
        """
        try:
            await asyncio.wait([self._task], timeout=self._soft)
            is_late = not self._task.done()
            if is_late:
                await self._end(self._hard - self._soft or CLEANUP_SECONDS)
        except asyncio.CancelledError:
            with CancelScope(shield=True):
                await self._end(CLEANUP_SECONDS)
            raise
        problem = f"the attempt took longer than {self._soft:g} s (timeout)"
        if not self._task.done():
            raise TimeoutError(f"{problem}, and ignored its cancellation")
        # As after a direct call, the code that follows has the context that the function set.
        for variable, value in self._context.items():
            variable.set(value)
        try:
            value = self._task.result()
            if isinstance(value, SystemExit):
                raise value
            if is_late and self._hard == self._soft:
                raise TimeoutError(problem)
            return value
        except asyncio.CancelledError as error:
            if is_late:
                raise TimeoutError(problem) from error
            raise

    async def _end(self, seconds: float) -> None:
        """Cancel the function, and abandon it if it does not end in time."""
        self._task.cancel()
        await asyncio.wait([self._task], timeout=seconds)
        if not self._task.done():
            _abandoned.add(self._task)
            self._task.add_done_callback(_forget)


async def _catch_exit(call: Coroutine[Any, Any, Any]) -> Any:
    # An asyncio task that raises SystemExit would end the event loop.
    try:
        return await call
    except SystemExit as error:
        return error


def _forget(task: asyncio.Task[Any]) -> None:
    _abandoned.discard(task)
    error = None if task.cancelled() else task.exception()
    logger.warning("abandoned attempt ended, and does not count", error=error and repr(error))


def leave_abandoned() -> None:
    """End the process if abandoned functions are still running. The event loop would wait."""
    if _abandoned:
        logger.warning("abandoned attempts were interrupted", count=len(_abandoned))
        logging.shutdown()
        os._exit(0)

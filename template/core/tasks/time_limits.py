"""Time limits: an attempt is cancelled at its limit, and abandoned if it does not end."""

import asyncio
import logging
import os
from collections.abc import Coroutine
from contextvars import copy_context
from enum import Enum, auto
from typing import Any, Generic, TypeVar

from core.logging import get_logger

logger = get_logger(__name__)

T = TypeVar("T")

CLEANUP_SECONDS = 5.0
"""A cancelled attempt that takes longer to end is abandoned."""

_abandoned: set[asyncio.Task[Any]] = set()


class Reason(Enum):
    """Why an attempt was cancelled."""

    TIMEOUT = auto()
    ABORT = auto()
    STOP = auto()


class LimitedCall(Generic[T]):
    """A coroutine that runs in its own asyncio task and context, within time limits.

    Args:
        soft: Seconds after which the coroutine is cancelled.
        hard: Seconds after which the attempt has failed, whatever the coroutine does.

    Attributes:
        context: The coroutine's context.
        reason: Why the coroutine was cancelled; None if it was not.
        task: The coroutine's asyncio task.
        problem: The text of the error if the coroutine is too slow.
    """

    def __init__(self, soft: float, hard: float) -> None:
        self.context = copy_context()
        self.reason: Reason | None = None
        self.task: asyncio.Task[T] | None = None
        self.problem = f"the attempt took longer than {soft:g} s (timeout)"
        self._soft = soft
        self._hard = hard
        self._loop = asyncio.get_running_loop()
        self._is_over = self._loop.create_future()
        self._timer: asyncio.TimerHandle | None = None

    def late_error(self, cause: BaseException) -> TimeoutError:
        """Return the error of a coroutine that ended at its limit.

        Args:
            cause: The error that the coroutine raised. Its traceback shows where the time went.
        """
        error = TimeoutError(self.problem)
        error.__cause__ = cause
        return error

    @property
    def is_too_late(self) -> bool:
        """Whether a result would come after the hard limit."""
        return self.reason is Reason.TIMEOUT and self._hard == self._soft

    def cancel(self, reason: Reason) -> None:
        """Cancel the coroutine.

        Args:
            reason: Why. The first reason stays.
        """
        self.reason = self.reason or reason
        if self.task:
            self.task.cancel()

    async def run(self, call: Coroutine[Any, Any, T]) -> T:
        """Run the coroutine, and return its result.

        If the caller is cancelled, so is the coroutine, for the reason `STOP`.

        Args:
            call: The coroutine. `reason` tells it why it is cancelled.

        Raises:
            TimeoutError: The coroutine ignored its cancellation, and was abandoned.
        """
        self.task = self._loop.create_task(call, context=self.context)
        self.task.add_done_callback(self._end)
        self._timer = self._loop.call_later(self._soft, self._cancel_late)
        try:
            await self._is_over
        except asyncio.CancelledError:
            self.cancel(Reason.STOP)
            await self._wait_for_cleanup()
            if not self.task.done() or self.task.cancelled():
                raise
        finally:
            self._timer.cancel()
        if not self.task.done():
            self._abandon(self.task)
            raise TimeoutError(f"{self.problem}, and ignored its cancellation")
        return self.task.result()

    def _end(self, _: object = None) -> None:
        if not self._is_over.done():
            self._is_over.set_result(None)

    def _cancel_late(self) -> None:
        self.cancel(Reason.TIMEOUT)
        seconds = self._hard - self._soft or CLEANUP_SECONDS
        self._timer = self._loop.call_later(seconds, self._end)

    async def _wait_for_cleanup(self) -> None:
        assert self.task
        try:
            await asyncio.wait([self.task], timeout=CLEANUP_SECONDS)
        finally:  # a second cancellation must not lose the task
            if not self.task.done():
                self._abandon(self.task)

    def _abandon(self, task: asyncio.Task[T]) -> None:
        _abandoned.add(task)
        task.add_done_callback(_forget)


def _forget(task: asyncio.Task[Any]) -> None:
    _abandoned.discard(task)
    error = None if task.cancelled() else task.exception()
    logger.warning("abandoned attempt ended, and does not count", error=error and repr(error))


def leave_abandoned(status: int = 0) -> None:
    """End the process if abandoned attempts still run. The event loop would wait for them.

    Args:
        status: The exit status.
    """
    if _abandoned:
        logger.warning("abandoned attempts were interrupted", count=len(_abandoned))
        logging.shutdown()
        os._exit(status)

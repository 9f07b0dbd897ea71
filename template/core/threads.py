"""Threads for plain functions. No thread can be cancelled: a process that ends leaves busy ones."""

import logging
import os
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextvars import ContextVar
from typing import Any, ParamSpec, TypeVar

from anyio import CapacityLimiter, to_thread

from core.logging import get_logger

__all__ = ["ThreadPool"]

P = ParamSpec("P")
R = TypeVar("R")

logger = get_logger(__name__)

END_SECONDS = 0.5
_unfinished: set[Future[Any]] = set()
_lent: ContextVar[CapacityLimiter | None] = ContextVar("lent", default=None)
"""Limits the calls inside a call of `run_in_thread`."""


class ThreadPool(ThreadPoolExecutor):
    """A thread pool whose unfinished calls do not keep the process alive at its end.

    It takes the arguments of `concurrent.futures.ThreadPoolExecutor`.
    """

    def submit(self, fn: Callable[P, R], /, *args: P.args, **kwargs: P.kwargs) -> Future[R]:
        """Run a function in a thread; see `concurrent.futures.Executor.submit`.

        Args:
            fn: The function.
            *args: Its positional arguments.
            **kwargs: Its keyword arguments.
        """
        future = super().submit(fn, *args, **kwargs)
        _note(future)
        return future


async def run_in_thread(function: Callable[[], R], limiter: CapacityLimiter | None) -> R:
    """Run a function in a thread in which `anyio.from_thread.run` works.

    If the caller is cancelled, the thread keeps running. It no longer counts for the limiter, so
    other calls do not wait for it.

    A call inside another one, by `anyio.from_thread.run`, does not count for the limiter, because
    the outer thread waits for it. Otherwise, calls that hold all threads could wait for each other.

    Args:
        function: The function.
        limiter: Limits the threads; anyio's own limiter if None.
    """
    own_place = CapacityLimiter(1)

    def call() -> R:
        _lent.set(own_place)  # in a copy of the context, which only this call has
        future: Future[None] = Future()
        future.set_running_or_notify_cancel()
        _note(future)
        try:
            return function()
        finally:
            future.set_result(None)

    return await to_thread.run_sync(
        call,
        abandon_on_cancel=True,
        limiter=_lent.get() or limiter,
    )


def _note(future: Future[Any]) -> None:
    _unfinished.add(future)
    future.add_done_callback(_unfinished.discard)


def leave_threads(status: int) -> None:
    """End the process if calls in threads are still running.

    Python itself waits for threads without a limit. Calls that no thread has begun are dropped.

    Args:
        status: The exit status.
    """
    running = [future for future in list(_unfinished) if not future.cancel()]
    _, left = wait(running, timeout=END_SECONDS)
    if left:
        logger.warning("calls in threads were interrupted", count=len(left))
        logging.shutdown()
        os._exit(status)

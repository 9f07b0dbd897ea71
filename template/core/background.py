"""Work in this process that needs no queue: it keeps its correlation id, and its failures are logged.

It is lost when the process ends before it does. What must not be lost is a task (`app/tasks/`).
"""

import asyncio
import inspect
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar, overload

from core.context import TaskContext
from core.logging import get_logger

__all__ = ["create_background_task", "run_background_task"]

R = TypeVar("R")
AsyncFunction = Callable[..., Coroutine[Any, Any, R]]

logger = get_logger(__name__)
_running: set[asyncio.Task[Any]] = set()


@overload
async def run_background_task(
    function: AsyncFunction[R], *args: Any, correlation_id: str | None = None, **kwargs: Any
) -> R: ...


@overload
async def run_background_task(
    function: Callable[..., R], *args: Any, correlation_id: str | None = None, **kwargs: Any
) -> R: ...


async def run_background_task(
    function: Callable[..., Any], *args: Any, correlation_id: str | None = None, **kwargs: Any
) -> Any:
    """Run a function under a correlation id, and wait for it.

    Args:
        function: A coroutine function, or a plain one, which runs in a thread.
        *args: Its positional arguments.
        correlation_id: The id to carry; the current one where None, a new one where there is none.
        **kwargs: Its keyword arguments.

    Returns:
        What the function returns.

    Raises:
        Exception: What the function raises, after it was logged.
    """
    with TaskContext.use(correlation_id):
        try:
            if inspect.iscoroutinefunction(function):
                return await function(*args, **kwargs)
            return await asyncio.to_thread(function, *args, **kwargs)
        except Exception:
            logger.exception(
                "background task failed", function=getattr(function, "__qualname__", repr(function))
            )
            raise


@overload
def create_background_task(
    function: AsyncFunction[R], *args: Any, correlation_id: str | None = None, **kwargs: Any
) -> asyncio.Task[R]: ...


@overload
def create_background_task(
    function: Callable[..., R], *args: Any, correlation_id: str | None = None, **kwargs: Any
) -> asyncio.Task[R]: ...


def create_background_task(
    function: Callable[..., Any], *args: Any, correlation_id: str | None = None, **kwargs: Any
) -> asyncio.Task[Any]:
    """Start a function in the background, as `run_background_task` runs it, and return at once.

    The task is kept alive until it is done, and is waited for when the service stops.

    Args:
        function: A coroutine function, or a plain one, which runs in a thread.
        *args: The function's positional arguments.
        correlation_id: The id to carry. Defaults to the current one, or a new one.
        **kwargs: The function's keyword arguments.

    Returns:
        The running task. Its result is what the function returns.
    """
    coroutine = run_background_task(function, *args, correlation_id=correlation_id, **kwargs)
    task = asyncio.create_task(coroutine)
    _running.add(task)
    task.add_done_callback(_forget)
    return task


def _forget(task: asyncio.Task[Any]) -> None:
    _running.discard(task)
    if not task.cancelled():
        task.exception()  # logged already; reading it keeps asyncio from reporting it once more


async def drain_background_tasks(timeout: float) -> None:
    """Wait for the running background tasks, then cancel those that are left.

    Args:
        timeout: Seconds to wait.
    """
    if not _running:
        return
    _, late = await asyncio.wait(_running, timeout=timeout)
    for task in late:
        task.cancel()
    if late:
        logger.warning("background tasks cancelled at shutdown", count=len(late))
        await asyncio.wait(late)

"""Background tasks in this process. They keep the correlation id, and their failures are logged.

A background task is lost if the process ends first. Work that must not be lost is a task in
`app/tasks/`.
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
    function: AsyncFunction[R],
    *args: Any,
    correlation_id: str | None = None,
    **kwargs: Any,
) -> R: ...


@overload
async def run_background_task(
    function: Callable[..., R],
    *args: Any,
    correlation_id: str | None = None,
    **kwargs: Any,
) -> R: ...


async def run_background_task(
    function: Callable[..., Any],
    *args: Any,
    correlation_id: str | None = None,
    **kwargs: Any,
) -> Any:
    """Run a function with a correlation id, and wait for it.

    Args:
        function: A coroutine function, or a plain function, which runs in a thread.
        *args: The function's positional arguments.
        correlation_id: The correlation id. Defaults to the current one, or else to a new one.
        **kwargs: The function's keyword arguments.

    Returns:
        The function's return value.

    Raises:
        Exception: Any exception of the function, after it was logged.
    """
    with TaskContext.use(correlation_id):
        try:
            if inspect.iscoroutinefunction(function):
                return await function(*args, **kwargs)
            return await asyncio.to_thread(function, *args, **kwargs)
        except Exception:
            name = getattr(function, "__qualname__", repr(function))
            logger.exception("background task failed", function=name)
            raise


@overload
def create_background_task(
    function: AsyncFunction[R],
    *args: Any,
    correlation_id: str | None = None,
    **kwargs: Any,
) -> asyncio.Task[R]: ...


@overload
def create_background_task(
    function: Callable[..., R],
    *args: Any,
    correlation_id: str | None = None,
    **kwargs: Any,
) -> asyncio.Task[R]: ...


def create_background_task(
    function: Callable[..., Any],
    *args: Any,
    correlation_id: str | None = None,
    **kwargs: Any,
) -> asyncio.Task[Any]:
    """Start a function in the background and return at once.

    The function runs as in `run_background_task`. A service that stops waits for it.

    Args:
        function: A coroutine function, or a plain function, which runs in a thread.
        *args: The function's positional arguments.
        correlation_id: The correlation id. Defaults to the current one, or else to a new one.
        **kwargs: The function's keyword arguments.

    Returns:
        The running task. Its result is the function's return value.
    """
    coroutine = run_background_task(function, *args, correlation_id=correlation_id, **kwargs)
    task = asyncio.create_task(coroutine)
    _running.add(task)
    task.add_done_callback(_forget)
    return task


def _forget(task: asyncio.Task[Any]) -> None:
    _running.discard(task)
    if not task.cancelled():
        # asyncio would log the exception again if nothing had read it.
        task.exception()


async def drain_background_tasks(timeout: float) -> None:
    """Wait for the running background tasks, then cancel the rest.

    Args:
        timeout: Seconds to wait.
    """
    if not _running:
        return
    _, late = await asyncio.wait(_running, timeout=timeout)
    if late:
        logger.warning("background tasks cancelled at shutdown", count=len(late))
        for task in late:
            task.cancel()
        await asyncio.wait(late)

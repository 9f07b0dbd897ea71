"""The way from plain functions to the event loop of the service."""

import asyncio
import threading
from collections.abc import Callable, Coroutine
from concurrent.futures import CancelledError, Future
from typing import Any, Protocol, TypeVar, cast

R = TypeVar("R")

Work = Callable[[], Coroutine[Any, Any, R]]
"""Makes the coroutine to run."""


class Portal:
    """Runs coroutines on the event loop of the service, for code in threads.

    Create it in that event loop.
    """

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._thread = threading.get_ident()
        self._lock = threading.Lock()
        self._is_open = True
        self._waiting: set[Future[Any]] = set()

    def run(self, work: Work[R]) -> R:
        """Run a coroutine in the context of the calling code, and wait for its result.

        No event loop may be running in the calling thread.

        Args:
            work: Makes the coroutine.

        Raises:
            RuntimeError: The service is closing.
        """
        if threading.get_ident() == self._thread:
            # The loop is not running now, as in a plain test with async fixtures.
            return self._loop.run_until_complete(work())
        future = self._start(work)
        try:
            return future.result()
        except CancelledError:
            raise RuntimeError("the service closed while a job was being enqueued") from None
        except KeyboardInterrupt:
            future.cancel()
            raise

    def close(self) -> None:
        """Refuse further coroutines, and cancel the running ones. No thread waits any longer."""
        with self._lock:
            self._is_open = False
        for future in list(self._waiting):
            future.cancel()

    def _start(self, work: Work[R]) -> Future[R]:
        # With the lock, every coroutine that starts is known to `close`.
        with self._lock:
            if not self._is_open:
                raise RuntimeError("the service is closing, so no job can be enqueued")
            future = asyncio.run_coroutine_threadsafe(work(), self._loop)
            self._waiting.add(future)
        future.add_done_callback(self._waiting.discard)
        return future


class PortalOwner(Protocol):
    """An object with the portal of the running service."""

    @property
    def portal(self) -> Portal:
        """The portal."""
        ...


def run_or_return(owner: PortalOwner, work: Work[R]) -> Coroutine[Any, Any, R]:
    """Return a coroutine to async code. In a plain function, run it and return its result.

    A plain function is code in a thread without an event loop. The type is that of async code, so
    type checkers report a forgotten `await`.

    Args:
        owner: Has the portal.
        work: Makes the coroutine.
    """
    if _runs_event_loop():
        return work()
    result = owner.portal.run(work)
    return cast("Coroutine[Any, Any, R]", result)


def run_sync(owner: PortalOwner, work: Work[R]) -> R:
    """Run a coroutine in a plain function, and return its result.

    Args:
        owner: Has the portal.
        work: Makes the coroutine.

    Raises:
        RuntimeError: An event loop runs in this thread, or the service is closing.
    """
    if _runs_event_loop():
        hint = "write `await task.enqueue(...)` instead of `task.enqueue_sync(...)`"
        raise RuntimeError(f"this would block the event loop of this thread; {hint}")
    return owner.portal.run(work)


def _runs_event_loop() -> bool:
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return False
    return True

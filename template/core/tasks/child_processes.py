"""Child processes, for plain functions that must be killable or need a limit of memory."""

import multiprocessing
import os
import pickle
import resource
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from importlib import import_module
from multiprocessing.connection import Connection
from multiprocessing.pool import ExceptionWithTraceback
from typing import Any

import structlog
from anyio import CapacityLimiter, to_thread

from core.config import get_settings
from core.context import TaskContext
from core.logging import configure_logging, mask_texts, masked_texts

# A fork of a process that has imported the service starts in milliseconds, a new one in seconds.
_forkserver = multiprocessing.get_context("forkserver")


@dataclass(frozen=True)
class ChildCall:
    """A call of a plain function in a child process, with the context of the calling code.

    Attributes:
        module: The function's module.
        name: The function's name in it.
        args: The positional arguments.
        kwargs: The keyword arguments.
        memory_limit: Bytes that the function may take, in addition to what the process has at its
            start; without a limit if None.
    """

    module: str
    name: str
    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    memory_limit: int | None
    correlation_id: str | None = field(default_factory=TaskContext.get_correlation_id)
    actor: str | None = field(default_factory=TaskContext.get_actor)
    log_fields: dict[str, Any] = field(default_factory=structlog.contextvars.get_contextvars)
    masked: tuple[str, ...] = field(default_factory=masked_texts)


async def run_in_child(call: ChildCall) -> Any:
    """Run a function in a child process, which is killed if the caller is cancelled.

    Args:
        call: The call.

    Raises:
        ChildProcessError: The child process ended without a result.
    """
    _forkserver.set_forkserver_preload([call.module])
    receiver, sender = _forkserver.Pipe(duplex=False)
    child = _forkserver.Process(target=_serve, args=(sender, call), daemon=True)
    is_over = threading.Event()

    def wait() -> Any:
        child.start()
        sender.close()
        if is_over.is_set():
            child.kill()
        try:
            return receiver.recv()
        except EOFError:
            child.join()
            raise ChildProcessError(_describe(child.exitcode)) from None

    try:
        value, error = await to_thread.run_sync(
            wait,
            abandon_on_cancel=True,
            limiter=CapacityLimiter(1),
        )
    finally:
        is_over.set()
        if child.pid:
            child.kill()
    if error:
        raise error
    return value


def _describe(status: int | None) -> str:
    if status and status < 0:
        return f"the child process was killed by {signal.Signals(-status).name}"
    return f"the child process ended with status {status}"


def _serve(sender: Connection, call: ChildCall) -> None:
    """Run the function in the child process, and send its result or its error."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C gives jobs their grace period
    threading.Thread(target=_end_with_parent, daemon=True).start()
    configure_logging(get_settings(), "child")
    structlog.contextvars.bind_contextvars(**call.log_fields)
    mask_texts(call.masked)
    with TaskContext.use(call.correlation_id, call.actor):
        sender.send_bytes(_run(call))


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    assert parent
    parent.join()
    os._exit(os.EX_SOFTWARE)


def _run(call: ChildCall) -> bytes:
    """Return the pickled result and error of the function."""
    try:
        task = getattr(import_module(call.module), call.name)
        function: Callable[..., Any] = getattr(task, "function", task)
        with _limited_memory(call.memory_limit):
            value = function(*call.args, **call.kwargs)
        return pickle.dumps((value, None))
    except BaseException as error:
        return _pickle_error(error)


def _pickle_error(error: BaseException) -> bytes:
    try:
        answer = pickle.dumps((None, ExceptionWithTraceback(error, error.__traceback__)))
        pickle.loads(answer)
    except Exception:
        text = f"{type(error).__name__}: {error}"
        error = RuntimeError(text).with_traceback(error.__traceback__)
        answer = pickle.dumps((None, ExceptionWithTraceback(error, error.__traceback__)))
    return answer


@contextmanager
def _limited_memory(limit: int | None) -> Iterator[None]:
    if limit is None:
        yield
        return
    _, hard = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (_address_space() + limit, hard))
    try:
        yield
    except MemoryError as error:
        raise MemoryError(f"the function took more than {limit} bytes (memory_limit)") from error
    finally:
        resource.setrlimit(resource.RLIMIT_AS, (hard, hard))


def _address_space() -> int:
    with open("/proc/self/statm") as file:
        pages = int(file.read().split()[0])
    return pages * resource.getpagesize()

"""Child processes, for plain functions that must be killable or need a memory limit."""

import logging
import multiprocessing
import os
import pickle
import resource
import signal
import threading
import traceback
from collections.abc import Callable, Mapping
from importlib import import_module
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, NamedTuple

import structlog
from anyio import CapacityLimiter, to_thread

from core.config import get_settings
from core.context import TaskContext
from core.logging import configure_logging, mask_texts, masked_texts
from core.traces import (
    CHILD_FLUSH_SECONDS,
    continue_trace,
    current_traceparent,
    modules_for_children,
    start_tracing,
    stop_tracing,
)

# A fork of a process that has imported the service takes 0.1 s, and a new process takes seconds.
_forkserver = multiprocessing.get_context("forkserver")


class Context(NamedTuple):
    """The context of the calling code, for the function in the child process.

    Attributes:
        correlation_id: The correlation id.
        actor: The id of the user the code runs for.
        fields: The fields of log lines.
        masked: The sensitive texts.
        traceparent: The current span, or None.
    """

    correlation_id: str | None
    actor: str | None
    fields: dict[str, Any]
    masked: tuple[str, ...]
    traceparent: str | None


async def run_in_child(
    function: Callable[..., Any],
    args: tuple[Any, ...],
    kwargs: Mapping[str, Any],
    memory_limit: int | None,
) -> Any:
    """Run a function in a child process, which is killed if the caller is cancelled.

    Args:
        function: A plain function of a module.
        args: Its positional arguments.
        kwargs: Its keyword arguments.
        memory_limit: Bytes that it may take; no limit if None.

    Raises:
        ChildProcessError: The child process ended before the function had ended.
    """
    _forkserver.set_forkserver_preload([function.__module__, *modules_for_children()])
    receiver, sender = _forkserver.Pipe(duplex=False)
    place = (function.__module__, function.__name__)
    fields = structlog.contextvars.get_contextvars()
    context = Context(
        TaskContext.get_correlation_id(),
        TaskContext.get_actor(),
        fields,
        masked_texts(),
        current_traceparent(),
    )
    call = (sender, context, place, args, kwargs, memory_limit)
    child = _forkserver.Process(target=_serve, args=call, daemon=True)
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
            hint = "a negative status is a signal"
            problem = f"the child process ended with status {child.exitcode}; {hint}"
            raise ChildProcessError(problem) from None

    try:
        own_thread = CapacityLimiter(1)
        value, error = await to_thread.run_sync(wait, abandon_on_cancel=True, limiter=own_thread)
    finally:
        is_over.set()
        if child.pid:
            child.kill()
    if error:
        raise error
    return value


def _serve(
    sender: Connection,
    context: Context,
    place: tuple[str, str],
    args: tuple[Any, ...],
    kwargs: Mapping[str, Any],
    memory_limit: int | None,
) -> None:
    """Run the function in the child process, and send its result or its error."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # after Ctrl-C, jobs have their grace period
    threading.Thread(target=_end_with_parent, daemon=True).start()
    settings = get_settings()
    configure_logging(settings, "child")
    if context.traceparent:
        start_tracing(settings, "child")
        continue_trace(context.traceparent)
    structlog.contextvars.bind_contextvars(**context.fields)
    mask_texts(context.masked)
    with TaskContext.use(context.correlation_id, context.actor):
        try:
            module, name = place
            task = getattr(import_module(module), name)
            function = getattr(task, "function", task)
            _limit_memory(memory_limit)
            answer = pickle.dumps((function(*args, **kwargs), None))
        except BaseException as error:
            _limit_memory(None)
            answer = _pickle_error(error)
        _limit_memory(None)  # the end of the traces starts a thread
        # The parent kills this process when it has the answer.
        stop_tracing(CHILD_FLUSH_SECONDS)
        logging.shutdown()
        sender.send_bytes(answer)


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    assert parent
    parent.join()
    os._exit(os.EX_SOFTWARE)


def _pickle_error(error: BaseException) -> bytes:
    error.add_note(traceback.format_exc())  # a traceback cannot be pickled
    try:
        answer = pickle.dumps((None, error))
        # Some errors can be pickled, but not read back. The bytes are from the line above.
        pickle.loads(answer)  # noqa: S301  # nosec B301
    except Exception:
        answer = pickle.dumps((None, RuntimeError("".join(traceback.format_exception(error)))))
    return answer


def _limit_memory(limit: int | None) -> None:
    """Limit the memory that this process may take in addition to what it has now."""
    _, hard = resource.getrlimit(resource.RLIMIT_AS)
    soft = hard
    if limit:
        pages = int(Path("/proc/self/statm").read_text().split()[0])
        soft = pages * resource.getpagesize() + limit
    resource.setrlimit(resource.RLIMIT_AS, (soft, hard))

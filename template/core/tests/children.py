"""Plain functions that run in a child process. It finds them by their module and name."""

import os
import signal
import time
from contextlib import suppress
from pathlib import Path

from core.context import TaskContext
from core.logging import get_logger
from core.tasks import PermanentError, RetryAfter, Sensitive

_kept: list[bytearray] = []


class Unpicklable(Exception):
    """An error that cannot be sent between processes."""

    def __init__(self, code: int, reason: str) -> None:
        super().__init__(reason)


def describe(secret: Sensitive[str]) -> list[str | int | None]:
    """Log a line, and return the process and its context."""
    get_logger(__name__).warning("in the child", secret=secret)
    return [os.getpid(), TaskContext.get_correlation_id(), TaskContext.get_actor()]


def fail(how: str) -> None:
    """Fail in one of many ways."""
    match how:
        case "killed":
            os.kill(os.getpid(), signal.SIGKILL)
        case "exited":
            os._exit(3)
        case "memory":
            bytearray(10**9)
        case "permanent":
            raise PermanentError("no such order")
        case "unpicklable":
            raise Unpicklable(7, "no such disk")
        case "later":
            raise RetryAfter(3600)


def fill() -> int:
    """Take all memory that the process may have, and leave too little for another thread."""
    kept: list[bytearray] = []
    with suppress(MemoryError):
        while True:
            kept.append(bytearray(2**20))
    _kept.extend(kept[:-4])
    return len(_kept)


def hang(path: str) -> None:
    """Write the process id to a file, and never end."""
    Path(path).write_text(str(os.getpid()))
    while True:
        time.sleep(60)

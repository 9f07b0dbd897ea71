"""Tracebacks without the frames of the framework that called the service's own code."""

from collections.abc import Iterator
from pathlib import Path
from traceback import (
    FrameSummary,
    TracebackException,
    extract_tb,
    format_exception,
    format_exception_only,
)
from typing import TextIO

from structlog.typing import ExcInfo

from core.config import ROOT


def describe_import_error(error: BaseException) -> str:
    """Return the error with its place, and the lines of `app/` and `tests/` that led to it.

    If no such line led to it, the whole traceback is returned.

    Args:
        error: The error.
    """
    has_own_frames = any(_own_frames(error))
    return describe_error(error) if has_own_frames else describe_in_full(error)


def describe_error(error: BaseException) -> str:
    """Return the error with its place, and the lines of `app/` and `tests/` that led to it.

    Args:
        error: The error.
    """
    lines = [_describe(error)]
    lines += [f"  {_format_place(frame)}: {frame.line}" for frame in _own_frames(error)]
    cause = _find_cause(error)
    while cause:
        lines.append(f"caused by {_describe(cause)}")
        cause = _find_cause(cause)
    return "\n".join(lines)


def describe_in_full(error: BaseException) -> str:
    """Return the whole traceback.

    Args:
        error: The error.
    """
    return "".join(format_exception(error)).rstrip()


def print_traceback(file: TextIO, exc_info: ExcInfo) -> None:
    """Print a traceback from the first frame of the service's code on.

    The values of variables are left out, because they may be secret.

    Args:
        file: Where to print.
        exc_info: The error, as `sys.exc_info` returns it.
    """
    _, error, _ = exc_info
    traceback = TracebackException.from_exception(error)
    part: TracebackException | None = traceback
    while part:
        _skip_framework(part)
        part = part.__cause__ or part.__context__
    file.write("\n" + "".join(traceback.format()).rstrip())


def _skip_framework(traceback: TracebackException) -> None:
    own = [index for index, frame in enumerate(traceback.stack) if _is_own(frame.filename)]
    if own:
        del traceback.stack[: own[0]]


def _own_frames(error: BaseException) -> Iterator[FrameSummary]:
    """Return the frames of the service's code, the innermost last."""
    for frame in extract_tb(error.__traceback__):
        if _is_own(frame.filename):
            yield frame
    if isinstance(error, SyntaxError) and error.filename and _is_own(error.filename):
        line = (error.text or "").strip()
        yield FrameSummary(error.filename, error.lineno, "", line=line)


def _is_own(file: str) -> bool:
    """Whether a file belongs to the service, and neither to `core/` nor to a library."""
    path = Path(file)
    if not path.is_relative_to(ROOT):
        return False
    parts = path.relative_to(ROOT).parts
    return parts[0] != "core" and "site-packages" not in parts


def _format_place(frame: FrameSummary) -> str:
    path = Path(frame.filename).relative_to(ROOT)
    return f"{path}:{frame.lineno}"


def _describe(error: BaseException) -> str:
    """Return the error's place in the service's code, its class and its text."""
    lines = format_exception_only(error)
    # Python prints the place and the line of a syntax error before its text.
    text = lines[-1] if isinstance(error, SyntaxError) else "".join(lines)
    *_, last = [None, *_own_frames(error)]
    place = f"{_format_place(last)}: " if last else ""
    return f"{place}{text.rstrip()}"


def _find_cause(error: BaseException) -> BaseException | None:
    if error.__suppress_context__:
        return error.__cause__
    return error.__cause__ or error.__context__

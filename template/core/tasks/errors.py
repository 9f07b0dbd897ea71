"""The errors of the task system, and their form as text."""

import traceback
from datetime import UTC, datetime, timedelta

from core.errors import UserError
from core.logging import mask
from core.tasks.records import ErrorFields

MESSAGE_LENGTH = 10_000
TRACEBACK_LENGTH = 100_000
NAME_LENGTH = 200
CUT = "[the beginning was cut] "


class TransientError(Exception):
    """A temporary error: the job is retried, as after any exception except `PermanentError`."""


class PermanentError(Exception):
    """A lasting error: the job fails without another attempt."""


class RetryAfter(Exception):
    """The job must run again after a time that its task chooses. The attempt does not count.

    If the job expires before that time, it fails with `JobExpired`.

    Args:
        seconds: The time, such as the one that a server named in its header `Retry-After`.

    Raises:
        ValueError: `seconds` is negative or not a number, or the time is after the year 9999.
    """

    def __init__(self, seconds: float) -> None:
        if not is_delay(seconds) or seconds < 0:
            raise ValueError(f"RetryAfter takes a number of seconds, not {seconds!r}")
        super().__init__(seconds)  # so that it can be pickled
        self.seconds = seconds

    def __str__(self) -> str:
        return f"the job asked to run again after {self.seconds:g} s"


def is_delay(seconds: float) -> bool:
    """Return whether a number of seconds from now is a time, at the latest in the year 9999.

    Args:
        seconds: The seconds, which may have a wrong type.
    """
    try:
        datetime.now(UTC) + timedelta(seconds=seconds)
    except (TypeError, ValueError, OverflowError):
        return False
    return True


class JobExpired(PermanentError):
    """A job did not start within the time that its task's `expires` allows."""


class InvalidArguments(UserError, TypeError):
    """`enqueue` got arguments that the task does not take."""


class InvalidTask(UserError, TypeError):
    """A function cannot be registered as a task."""


class ScheduleError(UserError):
    """A schedule is broken, does not exist, or was declared too late."""


class QueueUnavailable(UserError):
    """The queue's server cannot be reached, or refuses the call.

    Enqueue again. Use the same `job_id` if the job must not run twice.
    """


class QueueRefuses(QueueUnavailable):
    """The queue's server answers, but takes no new jobs: it is full or read-only, for example.

    Args:
        place: The server, for people.
        reason: Why it takes no jobs, such as `is full`.
    """

    def __init__(self, place: str, reason: str) -> None:
        super().__init__(f"{place} {reason}")
        self.reason = reason


REFUSALS = {
    "OOM": "is full: free memory, or raise maxmemory",
    "READONLY": "is a read-only replica",
    "NOREPLICAS": "has too few replicas (min-replicas-to-write)",
    "MISCONF": "cannot save its data to its disk",
}
"""The errors of a Redis or Valkey server that answers but does not write, with their meanings."""


class BadMessage(Exception):
    """A message or a record was not written by this service, or cannot be read."""


class JobFailed(Exception):
    """A job ended without a result.

    Attributes:
        job_id: The job's id.
        type: The name of the original exception's class.
        message: The original exception's text.
        traceback: The original traceback as text.
    """

    def __init__(self, job_id: str, type: str, message: str, traceback: str = "") -> None:
        super().__init__(f"job {job_id} failed: {type}: {message}")
        self.job_id = job_id
        self.type = type
        self.message = message
        self.traceback = traceback


def describe_error(error: BaseException) -> ErrorFields:
    """Return an error as text that every store accepts, without sensitive values.

    Args:
        error: The exception.
    """
    lines = traceback.format_exception(error)
    return {
        "type": _clean(type(error).__name__, NAME_LENGTH),
        "message": _message_of(error),
        "traceback": _clean("".join(lines), TRACEBACK_LENGTH),
    }


def _message_of(error: BaseException) -> str:
    try:
        return _clean(str(error), MESSAGE_LENGTH)
    except Exception:
        return "(its text cannot be read)"


def _clean(text: str, length: int) -> str:
    """Replace lone surrogates, mask sensitive values, and keep the end."""
    encodable = text.encode(errors="backslashreplace").decode()
    masked = mask(encodable)
    return masked if len(masked) <= length else CUT + masked[-length:]

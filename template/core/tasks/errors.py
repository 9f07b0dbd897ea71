"""What can go wrong with a job, in words for the person who reads it."""

import traceback

from core.errors import UserError
from core.logging import mask

MESSAGE_LENGTH = 10_000
TRACEBACK_LENGTH = 100_000


class TransientError(Exception):
    """Raise it in a task when trying again may help; so does any exception that is not a `PermanentError`."""


class PermanentError(Exception):
    """Raise it in a task when trying again cannot help: the job fails at once."""


class JobExpired(PermanentError):
    """The job was not started in the time that its task's `expires` gives."""


class InvalidArguments(UserError, TypeError):
    """`enqueue` was given arguments that the task does not take."""


class InvalidTask(UserError, TypeError):
    """A function cannot be registered as a task."""


class QueueUnavailable(UserError):
    """The queue's server cannot be reached. Enqueue again; with the same `job_id`, where the job must not run twice."""


class BadMessage(Exception):
    """A message was not written by this service, or cannot be read."""


class JobFailed(Exception):
    """The job ended without a result.

    Attributes:
        job_id: Which job.
        type: The name of the original exception's class.
        message: Its text.
        traceback: Its traceback as text.
    """

    def __init__(self, job_id: str, type: str, message: str, traceback: str = "") -> None:
        super().__init__(f"job {job_id} failed: {type}: {message}")
        self.job_id = job_id
        self.type = type
        self.message = message
        self.traceback = traceback


def describe_error(error: BaseException) -> dict[str, str]:
    """An error as `type`, `message` and `traceback`: text that every store takes, and without what is sensitive."""
    return {
        "type": type(error).__name__,
        "message": _text(error),
        "traceback": _clean("".join(traceback.format_exception(error)), TRACEBACK_LENGTH),
    }


def _text(error: BaseException) -> str:
    try:
        return _clean(str(error), MESSAGE_LENGTH)
    except Exception:
        return "(its text cannot be read)"


def _clean(text: str, length: int) -> str:
    """Without half characters, and not without an end."""
    return mask(text.encode(errors="backslashreplace").decode())[-length:]

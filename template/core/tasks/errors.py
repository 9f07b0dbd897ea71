"""What can go wrong with a job, in words for the person who reads it."""

from core.errors import UserError


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
        self.job_id, self.type, self.message, self.traceback = job_id, type, message, traceback

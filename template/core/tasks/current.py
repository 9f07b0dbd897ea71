"""The job that is running this code."""

import time
from contextvars import ContextVar
from dataclasses import dataclass

from core.logging import get_logger
from core.tasks.errors import QueueUnavailable
from core.tasks.queue import Queue
from core.tasks.records import ProgressFields

logger = get_logger(__name__)

PROGRESS_SECONDS = 0.1
OUTAGE_SECONDS = 5.0
"""After a report that failed, a job reports nothing for this time, because each try may wait."""


@dataclass(slots=True)
class CurrentJob:
    """The job that is running this code.

    Attributes:
        id: The job's id, the same at every attempt.
        attempt: The number of the attempt, from 1.
        correlation_id: The correlation id of the code that enqueued the job.
    """

    id: str
    attempt: int
    correlation_id: str
    _queue: Queue
    _fence: int
    _reported_at: float = 0
    _has_warned: bool = False

    async def progress(self, done: float, total: float, message: str = "") -> None:
        """Report the job's progress.

        `job.progress()` and `GET /jobs/{id}/events` show it. A report within 0.1 seconds of the
        last one is dropped, unless `done` has reached `total`.

        Reports are best effort: while the queue's server is down, they are dropped, and the job
        goes on. Its first dropped report logs a warning.

        Args:
            done: The amount that is done.
            total: The whole amount.
            message: A text for people.
        """
        now = time.monotonic()
        if now - self._reported_at < PROGRESS_SECONDS and done < total:
            return
        self._reported_at = now
        fields: ProgressFields = {
            "done": done,
            "total": total,
            # A name of a file may contain half a character, which JSON cannot keep.
            "message": message.encode(errors="backslashreplace").decode(),
        }
        try:
            await self._queue.write_progress(self.id, fields, self._fence)
        except QueueUnavailable as error:
            self._reported_at = time.monotonic() + OUTAGE_SECONDS
            if not self._has_warned:
                logger.warning("progress is lost while the queue is down", error=str(error))
            self._has_warned = True


running_job: ContextVar[CurrentJob | None] = ContextVar("running_job", default=None)
"""The job that the executor runs in this context."""


def current_job() -> CurrentJob:
    """Return the job that is running this code.

    Raises:
        RuntimeError: No job is running: the task was called directly.
    """
    job = running_job.get()
    if job is None:
        raise RuntimeError("no job is running here: the task was called directly, not enqueued")
    return job


async def report_progress(done: float, total: float, message: str = "") -> None:
    """Report progress as `current_job().progress` does; do nothing if no job is running.

    While the queue's server is down, reports are dropped, and the job continues.

    Args:
        done: The amount that is done.
        total: The whole amount.
        message: A text for people.
    """
    if job := running_job.get():
        await job.progress(done, total, message)

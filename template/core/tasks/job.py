"""A job, seen from outside (`Job`) and from inside (`current_job`)."""

import asyncio
import time
from collections.abc import Callable
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from core.tasks.errors import JobFailed
from core.tasks.queue import Queue
from core.tasks.records import Fields, JobStatus, Records, status_of

R = TypeVar("R")

PROGRESS_SECONDS = 0.1


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a job is.

    Attributes:
        done: How much is done.
        total: How much there is.
        message: For people.
    """

    done: float
    total: float
    message: str


class Job(Generic[R]):
    """A handle on one job, made by `enqueue` or from an id alone by `worker.job(id)`."""

    def __init__(self, id: str, queue: Queue, load_result: Callable[[Any], R]) -> None:
        self.id = id
        self._queue = queue
        self._load_result = load_result

    def __repr__(self) -> str:
        return f"Job({self.id!r})"

    async def status(self) -> JobStatus:
        """Where it stands; `unknown` where no such job is, or its record has expired."""
        return await self._queue.status(self.id)

    async def record(self) -> Fields:
        """Its record: state, task, owner, attempt, result or error."""
        return await self._queue.read(self.id)

    async def wait(self, timeout: float | None = None) -> Fields:
        """Wait until it has ended, however it did, and return its record.

        Args:
            timeout: Seconds to wait; for ever where None.

        Raises:
            TimeoutError: It has not ended in time; it goes on.
        """
        try:
            async with asyncio.timeout(timeout):
                return await self._queue.wait(self.id)
        except TimeoutError:
            status = await self.status()
            raise TimeoutError(f"job {self.id} is still {status} after {timeout} s; is a worker running?") from None

    async def progress(self) -> Progress | None:
        """What the task last said of how far it is; None where it has said nothing."""
        fields = (await self.record()).get("progress")
        return Progress(**fields) if fields else None

    async def abort(self, timeout: float = 5) -> bool:
        """Abort it: at once where it waits; where it runs, its code is cancelled.

        Args:
            timeout: Seconds to wait for the end of one that runs. A plain function in a thread cannot be cancelled.

        Returns:
            Whether it has ended as aborted.
        """
        await self._queue.abort(self.id)
        try:
            async with asyncio.timeout(timeout):
                record = await self._queue.wait(self.id)
        except TimeoutError:
            return False
        return status_of(record) is JobStatus.ABORTED

    async def result(self, timeout: float | None = None) -> R:
        """Wait until it has ended, and return what the task returned.

        Args:
            timeout: Seconds to wait; for ever where None.

        Raises:
            JobFailed: It ended without a result.
            TimeoutError: It has not ended in time; it goes on.
        """
        record = await self.wait(timeout)
        if status_of(record) is not JobStatus.COMPLETED:
            error = record.get("error") or {"type": "Aborted", "message": "the job was aborted"}
            raise JobFailed(self.id, **error)
        return self._load_result(record.get("result"))


@dataclass(slots=True)
class CurrentJob:
    """The job that runs this code.

    Attributes:
        id: Its id, the same at every attempt.
        attempt: 1 at the first.
        correlation_id: The id that the enqueueing code carried.
    """

    id: str
    attempt: int
    correlation_id: str
    _records: Records
    _told_at: float = 0

    async def progress(self, done: float, total: float, message: str = "") -> None:
        """Tell how far this is; read by `job.progress()` and at `GET /jobs/{id}/events`.

        What is said within a tenth of a second of the last time is dropped, except the end.

        Args:
            done: How much is done.
            total: How much there is.
            message: For people.
        """
        now = time.monotonic()
        if now - self._told_at >= PROGRESS_SECONDS or done >= total:
            self._told_at = now
            fields = {"done": done, "total": total, "message": message}
            await self._records.write(self.id, {"progress": fields}, None)


async def report_progress(done: float, total: float, message: str = "") -> None:
    """As `current_job().progress`, and nothing where the task was called directly.

    Args:
        done: How much is done.
        total: How much there is.
        message: For people.
    """
    if job := _current.get():
        await job.progress(done, total, message)


_current: ContextVar[CurrentJob | None] = ContextVar("current_job", default=None)


def current_job() -> CurrentJob:
    """The job that is running.

    Raises:
        RuntimeError: No job is running here; the task was called directly.
    """
    if (job := _current.get()) is None:
        raise RuntimeError("no job is running here: the task was called directly, not enqueued")
    return job

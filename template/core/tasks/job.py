"""A handle on a job, for the code that enqueued it."""

import asyncio
from collections.abc import Callable
from typing import Any, Generic, TypeVar

from core.tasks.errors import JobFailed
from core.tasks.queue import Queue
from core.tasks.records import ErrorFields, JobRecord, JobStatus, Progress

R = TypeVar("R")

_ABORTED: ErrorFields = {
    "type": "Aborted",
    "message": "the job was aborted",
    "traceback": "",
}


class Job(Generic[R]):
    """A handle on one job. `enqueue` returns one, and `worker.job(id)` makes one from an id.

    Attributes:
        id: The job's id.
    """

    __slots__ = ("_load_result", "_queue", "id")

    def __init__(self, id: str, queue: Queue, load_result: Callable[[Any], R]) -> None:
        self.id = id
        self._queue = queue
        self._load_result = load_result

    def __repr__(self) -> str:
        return f"Job({self.id!r})"

    async def status(self) -> JobStatus:
        """Return the job's status; `unknown` if the job has no record or it has expired."""
        return (await self.record()).status

    async def record(self) -> JobRecord:
        """Return the job's record."""
        return await self._queue.read(self.id)

    async def wait(self, timeout: float | None = None) -> JobRecord:
        """Wait until the job has ended, and return its record.

        Args:
            timeout: Seconds to wait; no limit if None.

        Raises:
            TimeoutError: The job has not ended in time. It goes on.
        """
        try:
            async with asyncio.timeout(timeout):
                return await self._queue.wait(self.id)
        except TimeoutError:
            status = await self.status()
            hint = "; is a worker running?" if status is JobStatus.PENDING else ""
            problem = f"job {self.id} is still {status} after {timeout} s"
            raise TimeoutError(f"{problem}{hint}") from None

    async def progress(self) -> Progress | None:
        """Return the progress that the task last reported, or None if there was no report."""
        return (await self.record()).progress

    async def abort(self, timeout: float = 5) -> bool:
        """Abort the job. A running job's code is cancelled.

        Args:
            timeout: Seconds to wait for the end of a running job. A plain function in a thread
                cannot be cancelled.

        Returns:
            Whether the job has ended as aborted.
        """
        await self._queue.abort(self.id)
        try:
            async with asyncio.timeout(timeout):
                record = await self._queue.wait(self.id)
        except TimeoutError:
            return False
        return record.status is JobStatus.ABORTED

    async def result(self, timeout: float | None = None) -> R:
        """Wait until the job has ended, and return what the task returned.

        Args:
            timeout: Seconds to wait; no limit if None.

        Raises:
            JobFailed: The job failed or was aborted.
            TimeoutError: The job has not ended in time. It goes on.
        """
        record = await self.wait(timeout)
        if record.status is not JobStatus.COMPLETED:
            error = record.error or _ABORTED
            raise JobFailed(self.id, **error)
        return self._load_result(record.result)

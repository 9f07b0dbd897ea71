"""The routes with which users follow their jobs."""

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import Annotated, Any

from fastapi import APIRouter, Depends, HTTPException
from fastapi.sse import EventSourceResponse, ServerSentEvent
from pydantic import BaseModel

from core.config import get_settings
from core.tasks import Job, JobRecord, JobStatus, Progress, Worker

EVENT_SECONDS = 0.2
NOT_FOUND = "Job not found."


class JobError(BaseModel):
    """The error of a job, without its traceback."""

    type: str
    message: str


class JobView(BaseModel):
    """A job, as its owner sees it."""

    id: str
    task: str
    status: JobStatus
    attempt: int
    progress: Progress | None = None
    result: Any = None
    error: JobError | None = None


class JobEvent(BaseModel):
    """An event of `GET /jobs/{id}/events`."""

    status: JobStatus
    progress: Progress | None = None


async def view_job(
    worker: Worker,
    job_id: str,
    user_id: str,
    task: str | None = None,
) -> JobView:
    """Return a user's job.

    Args:
        worker: The service's worker.
        job_id: The job's id.
        user_id: The id of the logged-in user.
        task: If given, a job of another task is answered as not found.

    Returns:
        The job, as its owner sees it.

    Raises:
        HTTPException: 404 if the job does not exist or belongs to another user.
    """
    record = await _find_own(worker.job(job_id), user_id)
    if task is not None and record.task != task:
        raise HTTPException(404, NOT_FOUND)
    return _view(job_id, record)


async def _find_own(job: Job[Any], user_id: str) -> JobRecord:
    record = await job.record()
    if record.state is JobStatus.UNKNOWN or record.owner != user_id:
        raise HTTPException(404, NOT_FOUND)
    return record


def _view(job_id: str, record: JobRecord) -> JobView:
    return JobView(
        id=job_id,
        task=record.task,
        status=record.status,
        attempt=record.attempt,
        progress=record.progress,
        result=record.result,
        error=JobError(**record.error) if record.error else None,
    )


def jobs_router(worker: Worker, current_user: Callable[..., Any]) -> APIRouter:
    """Return the router with `GET /jobs/{id}` and `GET /jobs/{id}/events`.

    Args:
        worker: The service's worker.
        current_user: The dependency that returns the logged-in user.
    """
    router = APIRouter(
        prefix="/jobs",
        tags=["jobs"],
        responses={401: {}, 404: {}},
    )

    async def own_record(
        job_id: str,
        user: Annotated[Any, Depends(current_user)],
    ) -> JobRecord:
        return await _find_own(worker.job(job_id), str(user.id))

    OwnRecord = Annotated[JobRecord, Depends(own_record)]  # noqa: N806  # a type
    shared = _SharedRead(worker)
    users_of_streams: list[str] = []

    async def count_stream(user: Annotated[Any, Depends(current_user)]) -> AsyncIterator[None]:
        user_id, settings = str(user.id), get_settings()
        own = users_of_streams.count(user_id)
        is_full = len(users_of_streams) >= settings.max_event_streams
        if is_full or own >= settings.max_event_streams_per_user:
            raise HTTPException(429, "Too many event streams are open. Close one first.")
        users_of_streams.append(user_id)
        try:
            yield
        finally:
            users_of_streams.remove(user_id)

    @router.get("/{job_id}")
    async def get_job(job_id: str, record: OwnRecord) -> JobView:
        """Return a job's status and progress, and its result or error."""
        return _view(job_id, record)

    @router.get(
        "/{job_id}/events",
        response_class=EventSourceResponse,
        responses={429: {}},
        dependencies=[Depends(count_stream)],
    )
    async def follow_job(job_id: str, record: OwnRecord) -> AsyncIterator[ServerSentEvent]:
        """Stream a job's status and progress as server-sent events until the job ends."""
        last = None
        while True:
            event = JobEvent(status=record.status, progress=record.progress)
            if event != last:
                yield ServerSentEvent(event="job", data=event)
                last = event
            if event.status.is_final or event.status is JobStatus.UNKNOWN:
                return
            record = await shared.read(job_id)

    return router


class _SharedRead:
    """The read of the queue's server that all event streams of this process share."""

    def __init__(self, worker: Worker) -> None:
        self._worker = worker
        self._job_ids: set[str] = set()
        self._next: asyncio.Task[dict[str, JobRecord]]

    async def read(self, job_id: str) -> JobRecord:
        """Return a job's record from the next shared read."""
        if not self._job_ids:
            self._next = asyncio.create_task(self._read_all())
        self._job_ids.add(job_id)
        # The other streams need the read even if this one is cancelled.
        return (await asyncio.shield(self._next))[job_id]

    async def _read_all(self) -> dict[str, JobRecord]:
        await asyncio.sleep(EVENT_SECONDS)
        job_ids = list(self._job_ids)
        self._job_ids.clear()
        records = await self._worker.queue.read_many(job_ids)
        return dict(zip(job_ids, records, strict=True))

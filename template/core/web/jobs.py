"""The routes with which users follow their jobs."""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager
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
    streams = _Streams(worker)

    async def count_stream(user: Annotated[Any, Depends(current_user)]) -> AsyncIterator[None]:
        with streams.count(str(user.id)):
            yield

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
    async def follow_job(
        job_id: str,
        record: OwnRecord,
    ) -> AsyncIterator[ServerSentEvent]:
        """Stream a job's status and progress as server-sent events until the job ends."""
        async for event in _follow(streams, job_id, record):
            yield ServerSentEvent(event="job", data=event)

    return router


class _Streams:
    """The open event streams of this process. They share one read of the queue's server."""

    def __init__(self, worker: Worker) -> None:
        self._worker = worker
        self._users: list[str] = []
        self._job_ids: set[str] = set()
        self._next: asyncio.Task[dict[str, JobRecord]] | None = None

    @contextmanager
    def count(self, user_id: str) -> Iterator[None]:
        """Count a stream while it is open. If too many are open, it is answered 429."""
        settings = get_settings()
        is_full = len(self._users) >= settings.max_event_streams
        if is_full or self._users.count(user_id) >= settings.max_event_streams_per_user:
            raise HTTPException(429, "Too many event streams are open. Close one first.")
        self._users.append(user_id)
        try:
            yield
        finally:
            self._users.remove(user_id)

    async def read(self, job_id: str) -> JobRecord:
        """Return a job's record as the next read of all streams finds it."""
        self._job_ids.add(job_id)
        if self._next is None:
            self._next = asyncio.create_task(self._read_all())
        # The other streams need the read even if this one is cancelled.
        return (await asyncio.shield(self._next))[job_id]

    async def _read_all(self) -> dict[str, JobRecord]:
        await asyncio.sleep(EVENT_SECONDS)
        job_ids = list(self._job_ids)
        self._job_ids.clear()
        self._next = None
        records = await self._worker.queue.read_many(job_ids)
        return dict(zip(job_ids, records, strict=True))


async def _follow(
    streams: _Streams,
    job_id: str,
    record: JobRecord,
) -> AsyncIterator[JobEvent]:
    """Yield an event at each change, until the job ends."""
    last = None
    while True:
        event = JobEvent(status=record.status, progress=record.progress)
        if event != last:
            yield event
            last = event
        if event.status.is_final or event.status is JobStatus.UNKNOWN:
            return
        record = await streams.read(job_id)

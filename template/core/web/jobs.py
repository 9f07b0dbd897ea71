"""Jobs, as their owner sees them."""

import asyncio
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from typing import Annotated, Any

from fastapi import APIRouter, Depends, HTTPException
from fastapi.sse import EventSourceResponse, ServerSentEvent
from pydantic import BaseModel

from core.tasks import JobRecord, JobStatus, Progress, Worker

EVENT_SECONDS = 0.2


class JobError(BaseModel):
    type: str
    message: str


class JobView(BaseModel):
    """What a job's owner may know of it."""

    id: str
    task: str
    status: JobStatus
    attempt: int
    progress: Progress | None = None
    result: Any = None
    error: JobError | None = None


class JobEvent(BaseModel):
    """One event of `GET /jobs/{id}/events`."""

    status: JobStatus
    progress: Progress | None = None


@dataclass
class Owned:
    """A job of the user who asks, and its record."""

    id: str
    record: JobRecord


async def view_job(worker: Worker, job_id: str, user_id: str, task: str | None = None) -> JobView:
    """What a user may know of a job.

    Args:
        worker: Of this service.
        job_id: Which job.
        user_id: Who asks.
        task: Its task; a job of any other one is none where this is given.

    Raises:
        HTTPException: 404 for the jobs of others, as for those that do not exist.
    """
    view = _view(job_id, await _own_record(worker, job_id, user_id))
    if task not in (None, view.task):
        raise HTTPException(404, "There is no such job.")
    return view


async def _own_record(worker: Worker, job_id: str, user_id: str) -> JobRecord:
    record = await worker.job(job_id).record()
    if record.state is JobStatus.UNKNOWN or record.owner != user_id:
        raise HTTPException(404, "There is no such job.")
    return record


def _view(job_id: str, record: JobRecord) -> JobView:
    return JobView(
        id=job_id,
        task=record.task,
        status=record.status,  # of the same read as the result
        attempt=record.attempt,
        progress=record.progress,
        result=record.result,
        error=JobError(**record.error) if record.error else None,
    )


def jobs_router(worker: Worker, current_user: Callable[..., Any]) -> APIRouter:
    """`GET /jobs/{id}` and `GET /jobs/{id}/events`."""
    router = APIRouter(prefix="/jobs", tags=["jobs"])

    async def own_job(job_id: str, user: Annotated[Any, Depends(current_user)]) -> Owned:
        return Owned(job_id, await _own_record(worker, job_id, str(user.id)))

    OwnJob = Annotated[Owned, Depends(own_job)]  # noqa: N806  # a type

    @router.get("/{job_id}", responses={401: {}, 404: {}})
    async def get_job(job: OwnJob) -> JobView:
        """A job's status and progress, and its result or error."""
        return _view(job.id, job.record)

    @router.get(
        "/{job_id}/events", response_class=EventSourceResponse, responses={401: {}, 404: {}}
    )
    async def follow_job(job: OwnJob) -> AsyncIterator[ServerSentEvent]:
        """The job's status and progress as server-sent events, one at each change, until it has ended."""
        last = None
        while True:
            event = JobEvent(status=job.record.status, progress=job.record.progress)
            if event != last:
                yield ServerSentEvent(event="job", data=event)
                last = event
            if event.status.is_final:
                return
            await asyncio.sleep(EVENT_SECONDS)
            job.record = await worker.job(job.id).record()

    return router

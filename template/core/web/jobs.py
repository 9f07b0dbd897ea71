"""Jobs, as their owner sees them."""

from collections.abc import Callable
from typing import Annotated, Any

from fastapi import APIRouter, Depends, HTTPException
from pydantic import BaseModel

from core.tasks import JobStatus, Worker, status_of


class JobError(BaseModel):
    type: str
    message: str


class JobView(BaseModel):
    """What a job's owner may know of it."""

    id: str
    task: str
    status: JobStatus
    attempt: int
    result: Any = None
    error: JobError | None = None


def jobs_router(worker: Worker, current_user: Callable[..., Any]) -> APIRouter:
    """`GET /jobs/{id}`."""
    router = APIRouter(prefix="/jobs", tags=["jobs"])

    @router.get("/{job_id}", responses={401: {}, 404: {}})
    async def get_job(job_id: str, user: Annotated[Any, Depends(current_user)]) -> JobView:
        """A job's status, and its result or error. 404 for the jobs of others, as for those that do not exist."""
        record = await worker.job(job_id).record()
        if not record or record.get("owner") != str(user.id):
            raise HTTPException(404, "There is no such job.")
        return JobView(
            id=job_id,
            task=record["task"],
            status=status_of(record),  # of the same read as the result
            attempt=record.get("attempt", 1),
            result=record.get("result"),
            error=record.get("error"),
        )

    return router

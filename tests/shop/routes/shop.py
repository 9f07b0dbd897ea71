"""Routes with which a test enqueues jobs, and changes what takes too long to wait for."""

from datetime import timedelta
from typing import Any

from beanie import PydanticObjectId
from bson import ObjectId
from fastapi import APIRouter

from app.tasks import shop
from core.context import TaskContext
from core.models import SessionModel
from core.tasks import ChainJob
from core.tasks.worker import worker

router = APIRouter(prefix="/shop", include_in_schema=False)


@router.post("/jobs/{task}")
async def enqueue(
    task: str,
    calls: list[list[Any]],
    delay: float | None = None,
    owner: str | None = None,
    trace: str | None = None,
) -> list[str]:
    """Enqueue a job of a task for each call, and return their ids. A chain has its first job's.

    Args:
        task: The name of the task, or of the chain `close_day`.
        calls: The arguments of each job.
        delay: Seconds until the jobs are due.
        owner: The user that the jobs belong to.
        trace: The correlation id of the jobs.
    """
    chosen = getattr(shop, task).using(delay=delay) if delay else getattr(shop, task)
    with TaskContext.use(trace, owner):
        jobs = [await chosen.enqueue(*call) for call in calls]
    return [job.stages[0].id if isinstance(job, ChainJob) else job.id for job in jobs]


@router.get("/jobs/{job_id}")
async def read_status(job_id: str) -> str:
    """Return the status of a job."""
    return await worker.job(job_id).status()


@router.post("/sessions/age")
async def age_newest_session() -> None:
    """Make the newest log-in an hour older."""
    (session,) = await SessionModel.find().sort("-_id").limit(1).to_list()
    assert session.id
    await session.delete()
    started = session.id.generation_time - timedelta(hours=1)
    session.id = PydanticObjectId(ObjectId.from_datetime(started))
    await session.insert()

from datetime import datetime
from typing import Annotated

from beanie import Document, Indexed
from pydantic import BaseModel


class RunningJob(BaseModel):
    """A job that a worker runs.

    Attributes:
        job_id: The job's id.
        task: The task's name.
        since: The start of the attempt.
    """

    job_id: str
    task: str
    since: datetime


class WorkerModel(Document):
    """A process that runs jobs. All times are from the clock of MongoDB's server.

    Attributes:
        id: The name of the worker, as in the records of its jobs.
        version: The version of the service, from `pyproject.toml`.
        running: The running jobs, oldest first; at most 100.
        running_count: The number of all running jobs.
        seen_at: The time of the last heartbeat.
        expires_at: From this time on, the worker counts as dead. MongoDB removes the document an
            hour later.
    """

    id: str  # type: ignore[assignment]  # the engine's name for the worker
    host: str
    pid: int
    version: str
    engine: str
    concurrency: int
    queue: str
    running: list[RunningJob]
    running_count: int
    started_at: datetime
    seen_at: datetime
    expires_at: Annotated[datetime, Indexed(expireAfterSeconds=3600)]

    class Settings:
        name = "workers"

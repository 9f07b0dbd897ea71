from datetime import datetime
from typing import Annotated

from beanie import Document, Indexed


class RunModel(Document):
    """A failed attempt of a job, or a run of a schedule.

    Attributes:
        job_id: The job's id.
        task: The task's name.
        schedule: The schedule that enqueued the job, if any.
        attempt: The number of the attempt, from 1.
        ended_as: `completed`, `retried` (failed and tried again), `failed` or `aborted`.
        error: The class and message of the exception, if the attempt failed.
        started_at: The start of the attempt.
        seconds: The duration of the attempt in seconds.
        correlation_id: The job's correlation id.
        expires_at: The time at which MongoDB removes the document.
    """

    job_id: Annotated[str, Indexed()]
    task: Annotated[str, Indexed()]
    schedule: Annotated[str | None, Indexed(sparse=True)] = None
    attempt: int
    ended_as: str
    error: str | None = None
    started_at: Annotated[datetime, Indexed()]
    seconds: float
    correlation_id: str
    expires_at: Annotated[datetime, Indexed(expireAfterSeconds=0)]

    class Settings:
        name = "job_runs"

from datetime import datetime
from typing import Annotated

from beanie import Document, Indexed


class RunModel(Document):
    """One run of a job, as history keeps it: of a job that failed, or of a schedule.

    Attributes:
        job_id: Which job.
        schedule: The schedule that it belongs to, if any.
        attempt: 1 at the first.
        ended_as: `completed`, `retried` (failed, and tried again), `failed` or `aborted`.
        error: The exception's class and text, where it failed.
        seconds: How long it took.
        expires_at: When MongoDB removes this.
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

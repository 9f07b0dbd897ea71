from datetime import datetime
from typing import Annotated, Any, ClassVar

from beanie import Document, Indexed
from pymongo import ASCENDING, DESCENDING, IndexModel

_NEWEST = ("started_at", DESCENDING)


def _index_of(field: str, *keys: tuple[str, int]) -> IndexModel:
    """Return an index of the runs that have this field. Other runs are not in it."""
    return IndexModel([*keys], partialFilterExpression={field: {"$gt": ""}})


class RunModel(Document):
    """One run of a job: an attempt that ended.

    Attributes:
        job_id: The job's id.
        task: The task's name.
        schedule: The schedule that enqueued the job, if any.
        owner: The id of the user who enqueued the job, or None.
        worker: The name of the worker that ran the job, or None.
        attempt: The number of the attempt, from 1.
        ended_as: `completed`, `retried` (failed and tried again), `failed` or `aborted`.
        error: The class and message of the exception, if the attempt failed.
        started_at: The start of the attempt.
        seconds: The duration of the attempt in seconds.
        sampled: The number of completed runs that this one represents. If a task runs very often,
            its worker keeps only some of its runs.
        correlation_id: The job's correlation id.
        expires_at: The time at which MongoDB removes the document.
    """

    job_id: Annotated[str, Indexed()]
    task: str
    schedule: str | None = None
    owner: str | None = None
    worker: str | None = None
    attempt: int
    ended_as: str
    error: str | None = None
    started_at: datetime
    seconds: float
    sampled: int = 1
    correlation_id: Annotated[str, Indexed()]
    expires_at: Annotated[datetime, Indexed(expireAfterSeconds=0)]

    class Settings:
        name = "job_runs"
        indexes: ClassVar[list[Any]] = [
            [("ended_as", ASCENDING), _NEWEST],
            [("task", ASCENDING), ("ended_as", ASCENDING), _NEWEST],
            _index_of("owner", ("owner", ASCENDING), ("ended_as", ASCENDING), _NEWEST),
            _index_of("schedule", ("schedule", ASCENDING), _NEWEST),
            _index_of("schedule", _NEWEST),
        ]

"""History: every failure, and every run of a schedule, in MongoDB for some time."""

import time
from collections import deque
from datetime import UTC, datetime, timedelta
from typing import Any

from bson import ObjectId
from pymongo import ReplaceOne

from core.models import RunModel, ScheduleModel
from core.tasks.message import Message

MOST = 10_000
"""Runs that wait for MongoDB; the oldest go first where it stays away. A failed job itself is a dead letter."""


class History:
    """What has happened.

    Args:
        ttl: Seconds for which a run is kept.
    """

    def __init__(self, ttl: float) -> None:
        self._ttl = timedelta(seconds=ttl)
        self._waiting: deque[dict[str, Any]] = deque(maxlen=MOST)

    def note(self, message: Message, attempt: int, outcome: str, seconds: float, error: str | None = None) -> None:
        """Remember a run, where it is one to be kept. It reaches MongoDB with the next `write`.

        Args:
            message: The job's.
            attempt: 1 at the first.
            outcome: `completed`, `retried`, `failed` or `aborted`.
            seconds: How long it took.
            error: What went wrong, if anything.
        """
        if outcome == "completed" and message.schedule is None:
            return
        started_at = datetime.fromtimestamp(time.time() - seconds, UTC)
        self._waiting.append(
            {
                "_id": ObjectId(),
                "job_id": message.id,
                "task": message.task,
                "schedule": message.schedule,
                "attempt": attempt,
                "outcome": outcome,
                "error": error,
                "started_at": started_at,
                "seconds": seconds,
                "correlation_id": message.correlation_id,
                "expires_at": started_at + self._ttl,
            }
        )

    async def write(self) -> None:
        """Store what waits, and tell the schedules how their jobs ended."""
        runs = list(self._waiting)
        if not runs:
            return
        # Written again after an outage in the middle, they are the same.
        await RunModel.get_pymongo_collection().bulk_write(
            [ReplaceOne({"_id": run["_id"]}, run, upsert=True) for run in runs]
        )
        schedules = ScheduleModel.get_pymongo_collection()
        for run in runs:
            if run["schedule"] and run["outcome"] != "retried":
                ended = {"last_ended_job": run["job_id"], "last_status": run["outcome"]}
                await schedules.update_one({"_id": run["schedule"]}, {"$set": ended})
        written = {run["_id"] for run in runs}
        while self._waiting and self._waiting[0]["_id"] in written:
            self._waiting.popleft()

    async def list(
        self,
        *,
        task: str | None = None,
        schedule: str | None = None,
        outcome: str | None = None,
        since: datetime | None = None,
        until: datetime | None = None,
        limit: int = 100,
    ) -> list[RunModel]:
        """Runs, the newest first.

        Args:
            task: Only those of this task.
            schedule: Only those of this schedule.
            outcome: Only those that ended so.
            since: Only those that started then or later.
            until: Only those that started before.
            limit: At most so many.
        """
        query = make_query("started_at", since, until, task=task, schedule=schedule, outcome=outcome)
        return await RunModel.find(query).sort("-started_at").limit(limit).to_list()


def make_query(time_field: str, since: datetime | None, until: datetime | None, **fields: Any) -> dict[str, Any]:
    """A query for documents of a span of time with these values; what is None is left open."""
    span = {operator: value for operator, value in (("$gte", since), ("$lt", until)) if value is not None}
    query = {name: value for name, value in fields.items() if value is not None}
    return query | ({time_field: span} if span else {})

"""History: failed attempts and runs of schedules. MongoDB keeps them for a limited time."""

import time
from collections import deque
from datetime import UTC, datetime, timedelta
from typing import Any

from bson import ObjectId
from pymongo import ReplaceOne, UpdateOne

from core.database import make_query
from core.models import RunModel, ScheduleModel
from core.tasks.message import Message

MAX_BUFFERED = 10_000
"""The limit of runs in memory. While MongoDB is down, the oldest are dropped beyond it.

A failed job still has its dead letter.
"""


class History:
    """The history of this service's jobs.

    Args:
        ttl: Seconds for which a run is kept.
    """

    def __init__(self, ttl: float) -> None:
        self._ttl = timedelta(seconds=ttl)
        self._buffer: deque[dict[str, Any]] = deque(maxlen=MAX_BUFFERED)

    def note(
        self,
        message: Message,
        attempt: int,
        ended_as: str,
        seconds: float,
        error: str | None = None,
    ) -> None:
        """Add a run, unless it completed and no schedule enqueued it. `write` stores it.

        Args:
            message: The job's message.
            attempt: The number of the attempt, from 1.
            ended_as: `completed`, `retried`, `failed` or `aborted`.
            seconds: How long the run took.
            error: The error in one line, or None.
        """
        if ended_as == "completed" and message.schedule is None:
            return
        started_at = datetime.fromtimestamp(time.time() - seconds, UTC)
        self._buffer.append(
            {
                "_id": ObjectId(),
                "job_id": message.id,
                "task": message.task,
                "schedule": message.schedule,
                "attempt": attempt,
                "ended_as": ended_as,
                "error": error,
                "started_at": started_at,
                "seconds": seconds,
                "correlation_id": message.correlation_id,
                "expires_at": started_at + self._ttl,
            }
        )

    async def write(self) -> None:
        """Store the new runs, and note in each schedule how its last job ended."""
        runs = list(self._buffer)
        if not runs:
            return
        # Replacing is safe to repeat after an outage.
        writes = [ReplaceOne({"_id": run["_id"]}, run, upsert=True) for run in runs]
        await RunModel.get_pymongo_collection().bulk_write(writes)
        ends = [_note_end(run) for run in runs if run["schedule"] and run["ended_as"] != "retried"]
        if ends:
            await ScheduleModel.get_pymongo_collection().bulk_write(ends)
        written = {run["_id"] for run in runs}
        # While MongoDB wrote, the buffer may have dropped its oldest runs and taken new ones.
        while self._buffer and self._buffer[0]["_id"] in written:
            self._buffer.popleft()

    async def list(
        self,
        *,
        task: str | None = None,
        schedule: str | None = None,
        ended_as: str | None = None,
        since: datetime | None = None,
        until: datetime | None = None,
        limit: int = 100,
    ) -> list[RunModel]:
        """Return runs, the newest first.

        Args:
            task: Return only runs of this task.
            schedule: Return only runs of this schedule.
            ended_as: Return only runs that ended in this way.
            since: Return only runs that started at this time or later.
            until: Return only runs that started before this time.
            limit: The largest number of runs to return.
        """
        query = make_query(
            "started_at",
            since,
            until,
            task=task,
            schedule=schedule,
            ended_as=ended_as,
        )
        runs = RunModel.find(query).sort("-started_at")
        return await runs.limit(limit).to_list()


def _note_end(run: dict[str, Any]) -> UpdateOne:
    ended = {"last_ended_job": run["job_id"], "last_status": run["ended_as"]}
    return UpdateOne({"_id": run["schedule"]}, {"$set": ended})

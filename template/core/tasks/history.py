"""History: the runs of jobs. MongoDB keeps them for a limited time."""

import time
from collections import defaultdict, deque
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

from bson import ObjectId
from pymongo import ReplaceOne, UpdateOne

from core.database import make_query, summarize_error
from core.logging import get_logger
from core.models import RunModel, ScheduleModel
from core.tasks.message import Message
from core.tasks.records import JobRecord
from core.tasks.upkeep import OUTAGE

logger = get_logger(__name__)

MAX_BUFFERED = 10_000
"""The limit of runs in memory. While MongoDB is down, the oldest are dropped beyond it.

A failed job still has its dead letter.
"""
BURST = 100.0
RATE = 1.0
"""A worker keeps a burst of `BURST` completed runs of a task, and then `RATE` runs a second."""
FAILURES = ("retried", "failed", "aborted")


@dataclass(slots=True)
class _Sampler:
    """Chooses the completed runs of one task that are kept (a token bucket)."""

    tokens: float = field(default_factory=lambda: BURST)
    filled_at: float = field(default_factory=time.monotonic)
    skipped: int = 0

    def take(self) -> int:
        """Return the number of runs that this one represents, or 0 if it is not kept."""
        now = time.monotonic()
        self.tokens = min(BURST, self.tokens + (now - self.filled_at) * RATE)
        self.filled_at = now
        self.skipped += 1
        if self.tokens < 1:
            return 0
        self.tokens -= 1
        sampled, self.skipped = self.skipped, 0
        return sampled


class History:
    """The history of this service's jobs.

    Failures, and runs of schedules, are all kept. Other completed runs are kept for a shorter time,
    and only some of them if a task runs very often.

    Args:
        ttl: Seconds for which failures and runs of schedules are kept.
        completed_ttl: Seconds for which other completed runs are kept; 0 to keep none.
    """

    def __init__(self, ttl: float, completed_ttl: float) -> None:
        self._ttl = timedelta(seconds=ttl)
        self._completed_ttl = timedelta(seconds=completed_ttl)
        self._samplers: defaultdict[str, _Sampler] = defaultdict(_Sampler)
        # Completed runs have their own buffer, so in an outage they do not push out failures.
        self._notable: deque[dict[str, Any]] = deque(maxlen=MAX_BUFFERED)
        self._completed: deque[dict[str, Any]] = deque(maxlen=MAX_BUFFERED)

    def note(
        self,
        message: Message,
        record: JobRecord,
        ended_as: str,
        seconds: float,
        error: str | None = None,
    ) -> None:
        """Add a run, unless it is one of many completed runs of its task. `write` stores it.

        Args:
            message: The job's message.
            record: The job's record when the run began.
            ended_as: `completed`, `retried`, `failed` or `aborted`.
            seconds: How long the run took.
            error: The error in one line, or None.
        """
        buffer, ttl, sampled = self._notable, self._ttl, 1
        if ended_as == "completed" and message.schedule is None:
            buffer, ttl = self._completed, self._completed_ttl
            sampled = self._samplers[message.task].take() if ttl else 0
            if not sampled:
                return
        started_at = datetime.fromtimestamp(time.time() - seconds, UTC)
        run = _make_run(
            started_at,
            ttl,
            job_id=message.id,
            task=message.task,
            schedule=message.schedule,
            owner=message.owner,
            worker=record.worker,
            attempt=record.attempt,
            ended_as=ended_as,
            error=error,
            seconds=seconds,
            sampled=sampled,
            correlation_id=message.correlation_id,
        )
        buffer.append(run)

    async def store_abort(self, job_id: str, record: JobRecord) -> None:
        """Store that a job was aborted before a run. During an outage, `write` stores it later.

        Args:
            job_id: The job's id.
            record: The job's record before it was aborted.
        """
        run = _make_run(
            datetime.now(UTC),
            self._ttl,
            job_id=job_id,
            task=record.task,
            owner=record.owner,
            attempt=record.attempt,
            ended_as="aborted",
            seconds=0.0,
            correlation_id=record.correlation_id,
        )
        try:
            await RunModel.get_pymongo_collection().insert_one(run)
        except OUTAGE as error:
            self._notable.append(run)
            reason = summarize_error(error)
            logger.warning("aborted job is not in the history yet", job_id=job_id, error=reason)

    async def write(self) -> None:
        """Store the new runs, and note in each schedule how its last job ended."""
        runs = [*self._notable, *self._completed]
        if not runs:
            return
        # Replacing is safe to repeat after an outage.
        writes = [ReplaceOne({"_id": run["_id"]}, run, upsert=True) for run in runs]
        await RunModel.get_pymongo_collection().bulk_write(writes)
        ends = [_note_end(run) for run in runs if _ends_schedule(run)]
        if ends:
            await ScheduleModel.get_pymongo_collection().bulk_write(ends)
        written = {run["_id"] for run in runs}
        # While MongoDB wrote, a buffer may have dropped its oldest runs and taken new ones.
        for buffer in (self._notable, self._completed):
            while buffer and buffer[0]["_id"] in written:
                buffer.popleft()

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

        Without `schedule` and `ended_as`, these are the failures and the runs of schedules.

        Args:
            task: Return only runs of this task.
            schedule: Return only runs of this schedule.
            ended_as: Return only runs that ended in this way, such as `completed`.
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
        if schedule is None and ended_as is None:
            query = make_notable(query)
        runs = RunModel.find(query).sort("-started_at")
        return await runs.limit(limit).to_list()


def make_notable(query: dict[str, Any]) -> dict[str, Any]:
    """Return a query for failures and runs of schedules. Each part has an index by time.

    Args:
        query: Further conditions.
    """
    parts: list[dict[str, Any]] = [{"ended_as": failure} for failure in FAILURES]
    by_schedule: dict[str, Any] = {"schedule": {"$gt": ""}}
    if "task" in query:
        by_schedule["ended_as"] = "completed"  # then the index by task is in the order of time
    parts.append(by_schedule)
    return {"$or": [{**query, **part} for part in parts]}


def _ends_schedule(run: dict[str, Any]) -> bool:
    return "schedule" in run and run["ended_as"] != "retried"


def _make_run(started_at: datetime, ttl: timedelta, **fields: Any) -> dict[str, Any]:
    """Return the document of a run. It has no fields that are None."""
    run = {"_id": ObjectId(), **fields, "started_at": started_at, "expires_at": started_at + ttl}
    return {name: value for name, value in run.items() if value is not None}


def _note_end(run: dict[str, Any]) -> UpdateOne:
    ended = {"last_ended_job": run["job_id"], "last_status": run["ended_as"]}
    return UpdateOne({"_id": run["schedule"]}, {"$set": ended})

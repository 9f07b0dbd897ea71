"""Schedules: declared in code, stored in MongoDB, fired by whichever worker comes first."""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from apscheduler.triggers.base import BaseTrigger

from core.errors import UserError
from core.logging import get_logger
from core.models import ScheduleModel
from core.tasks.options import Call
from core.tasks.queue import Queue
from core.tasks.records import JobStatus
from core.tasks.task import Task
from core.tasks.triggers import next_time

logger = get_logger(__name__)


class ScheduleError(UserError):
    """A schedule cannot be found; the message names the existing ones."""


@dataclass(frozen=True)
class Schedule:
    """A schedule as the code declares it.

    Attributes:
        id: The schedule's name.
        task: The task to run, without arguments.
        trigger: When to run it.
        enabled: Whether the schedule fires before somebody enables or disables it.
        misfire_grace: Seconds by which the schedule may fire late, for example after no worker
            ran. Missed times within are made up for by one job; earlier ones are skipped.
    """

    id: str
    task: Task[[], Any]
    trigger: BaseTrigger
    enabled: bool = True
    misfire_grace: float = 3600


@dataclass(frozen=True)
class ScheduleView:
    """A schedule as the code declares it, with its state.

    Attributes:
        id: The schedule's name.
        task: The task's name.
        trigger: When the schedule fires, as text.
        enabled: Whether the schedule fires.
        next_run: When the schedule fires next, or None.
        last_run: The time for which the schedule last fired, or None.
        last_job: The id of the job that was enqueued then, or None.
        status: The status of that job, or None.
    """

    id: str
    task: str
    trigger: str
    enabled: bool
    next_run: datetime | None
    last_run: datetime | None = None
    last_job: str | None = None
    status: JobStatus | None = None


class Schedules:
    """The schedules of this service."""

    def __init__(self, queue: Queue, declared: dict[str, Schedule]) -> None:
        self._queue = queue
        self._declared = declared
        self._registered = False

    async def tick(self) -> None:
        """Fire the schedules that are due. Any number of workers may do this at once."""
        if not self._registered:
            await self.register()
            self._registered = True
        if self._declared:
            await self.fire_due(datetime.now(UTC))

    async def register(self) -> None:
        """Store new schedules, and compute the next run of each whose trigger has changed."""
        now = datetime.now(UTC)
        collection = ScheduleModel.get_pymongo_collection()
        for schedule in self._declared.values():
            state = {
                "trigger": str(schedule.trigger),
                "next_run": next_time(schedule.trigger, None, now),
            }
            new = {"enabled": schedule.enabled, **state}
            await collection.update_one({"_id": schedule.id}, {"$setOnInsert": new}, upsert=True)
            changed = {
                "_id": schedule.id,
                "trigger": {"$ne": state["trigger"]},
            }
            await collection.update_one(changed, {"$set": state})

    async def fire_due(self, now: datetime) -> None:
        """Enqueue a job for each schedule that is due.

        Args:
            now: The time.
        """
        ids = list(self._declared)
        due = {
            "_id": {"$in": ids},
            "enabled": True,
            "next_run": {"$lte": now},
        }
        for state in await ScheduleModel.find(due).to_list():
            await self._fire(self._declared[state.id], state, now)

    async def _fire(self, schedule: Schedule, state: ScheduleModel, now: datetime) -> None:
        assert state.next_run
        latest, following = _last_missed(schedule.trigger, state.next_run, now)
        change: dict[str, Any] = {"next_run": following}
        if now - latest <= timedelta(seconds=schedule.misfire_grace):
            # The id contains the time, so a second worker that enqueues the same run creates no
            # second job. The state moves on after the job is enqueued, so a process that ends in
            # between leaves the schedule due.
            job_id = f"schedule:{schedule.id}:{latest.timestamp():.0f}"
            call = Call(schedule.task.name, job_id=job_id, schedule=schedule.id)
            (job,) = await schedule.task.submit(call, [((), {})])
            change |= {"last_run": latest, "last_job": job.id}
        else:
            logger.warning(
                "schedule missed its time",
                schedule=schedule.id,
                due=latest.isoformat(),
            )
        unmoved = {"_id": schedule.id, "next_run": state.next_run}
        await ScheduleModel.get_pymongo_collection().update_one(unmoved, {"$set": change})

    async def list(self) -> list[ScheduleView]:
        """Return all schedules, sorted by id."""
        stored = await ScheduleModel.find({"_id": {"$in": list(self._declared)}}).to_list()
        states = {state.id: state for state in stored}
        return [
            await self._view(self._declared[schedule_id], states.get(schedule_id))
            for schedule_id in sorted(self._declared)
        ]

    async def _view(self, schedule: Schedule, state: ScheduleModel | None) -> ScheduleView:
        if state is None:
            return ScheduleView(
                id=schedule.id,
                task=schedule.task.name,
                trigger=str(schedule.trigger),
                enabled=schedule.enabled,
                next_run=next_time(schedule.trigger, None, datetime.now(UTC)),
            )
        return ScheduleView(
            id=schedule.id,
            task=schedule.task.name,
            trigger=str(schedule.trigger),
            enabled=state.enabled,
            next_run=state.next_run,
            last_run=state.last_run,
            last_job=state.last_job,
            status=await self._status(state),
        )

    async def _status(self, state: ScheduleModel) -> JobStatus | None:
        if state.last_job is None:
            return None
        status = (await self._queue.read(state.last_job)).status
        has_expired = status is JobStatus.UNKNOWN and state.last_ended_job == state.last_job
        if has_expired and state.last_status:
            return JobStatus(state.last_status)
        return status

    async def enable(self, schedule_id: str) -> None:
        """Let a schedule fire from now on.

        Args:
            schedule_id: The schedule's id.

        Raises:
            ScheduleError: There is no such schedule.
        """
        next_run = next_time(self._get(schedule_id).trigger, None, datetime.now(UTC))
        await self._set(schedule_id, {"enabled": True, "next_run": next_run})

    async def disable(self, schedule_id: str) -> None:
        """Keep a schedule from firing until it is enabled.

        Args:
            schedule_id: The schedule's id.

        Raises:
            ScheduleError: There is no such schedule.
        """
        self._get(schedule_id)
        await self._set(schedule_id, {"enabled": False})

    async def run_now(self, schedule_id: str) -> str:
        """Enqueue a schedule's job now, even if it is disabled. Its next run stays the same.

        Args:
            schedule_id: The schedule's id.

        Returns:
            The id of the job.

        Raises:
            ScheduleError: There is no such schedule.
        """
        task = self._get(schedule_id).task
        (job,) = await task.submit(Call(task.name, schedule=schedule_id), [((), {})])
        await self._set(schedule_id, {"last_run": datetime.now(UTC), "last_job": job.id})
        return job.id

    def _get(self, schedule_id: str) -> Schedule:
        if schedule_id not in self._declared:
            known = ", ".join(sorted(self._declared)) or "none"
            problem = f"there is no schedule {schedule_id}"
            raise ScheduleError(f"{problem}; this service has: {known}")
        return self._declared[schedule_id]

    async def _set(self, schedule_id: str, change: dict[str, Any]) -> None:
        await self.register()
        collection = ScheduleModel.get_pymongo_collection()
        await collection.update_one({"_id": schedule_id}, {"$set": change})


def _last_missed(
    trigger: BaseTrigger, first: datetime, now: datetime
) -> tuple[datetime, datetime | None]:
    """Return the last time until now at which a trigger was due, and the time after it."""
    latest = first
    following: datetime | None = first
    while following and following <= now:
        latest = following
        following = next_time(trigger, latest, latest + timedelta(microseconds=1))
    return latest, following

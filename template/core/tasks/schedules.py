"""Schedules: declared in code, remembered in MongoDB, fired by whichever worker comes first."""

from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

from apscheduler.triggers.base import BaseTrigger

from core.errors import UserError
from core.logging import get_logger
from core.models import ScheduleModel
from core.tasks.queue import Queue
from core.tasks.records import JobStatus
from core.tasks.task import Call, Task
from core.tasks.triggers import next_time

logger = get_logger(__name__)


class ScheduleError(UserError):
    """Nothing can be done with a schedule; the message says why."""


@dataclass(frozen=True)
class Schedule:
    """One schedule, as the code declares it.

    Attributes:
        id: Its name.
        task: What it runs, without arguments.
        trigger: When.
        enabled: Whether it fires until someone says otherwise.
        misfire_grace: Seconds by which it may fire late, as when no worker ran; missed times within are made up for
            by one job, later ones are left out.
    """

    id: str
    task: Task[[], Any]
    trigger: BaseTrigger
    enabled: bool = True
    misfire_grace: float = 3600


@dataclass(frozen=True)
class ScheduleView:
    """A schedule as it stands: what the code declares, and what has happened.

    Attributes:
        status: The status of the last job; None where it never ran.
    """

    id: str
    task: str
    trigger: str
    enabled: bool
    next_run: datetime | None
    last_run: datetime | None
    last_job: str | None
    status: JobStatus | None = field(default=None)


class Schedules:
    """The schedules of this service: list, enable, disable, run now."""

    def __init__(self, queue: Queue, declared: dict[str, Schedule]) -> None:
        self._queue = queue
        self._declared = declared
        self._registered = False

    async def tick(self) -> None:
        """Fire what is due now. Any number of workers may do so."""
        if not self._registered:
            await self.register()
            self._registered = True
        if self._declared:
            await self.fire_due(datetime.now(UTC))

    async def register(self) -> None:
        """Remember new schedules, and compute the next run of those whose trigger has changed."""
        now = datetime.now(UTC)
        collection = ScheduleModel.get_pymongo_collection()
        for schedule in self._declared.values():
            trigger, next_run = str(schedule.trigger), next_time(schedule.trigger, None, now)
            new = {"trigger": trigger, "enabled": schedule.enabled, "next_run": next_run}
            await collection.update_one({"_id": schedule.id}, {"$setOnInsert": new}, upsert=True)
            changed = {"_id": schedule.id, "trigger": {"$ne": trigger}}
            await collection.update_one(changed, {"$set": {"trigger": trigger, "next_run": next_run}})

    async def fire_due(self, now: datetime) -> None:
        """Enqueue a job for each schedule whose time has come."""
        due = {"_id": {"$in": [*self._declared]}, "enabled": True, "next_run": {"$lte": now}}
        for state in await ScheduleModel.find(due).to_list():
            await self._fire(self._declared[state.id], state, now)

    async def _fire(self, schedule: Schedule, state: ScheduleModel, now: datetime) -> None:
        assert state.next_run
        latest: datetime = state.next_run
        following: datetime | None = latest
        while following and following <= now:  # missed times become one
            latest = following
            following = next_time(schedule.trigger, latest, latest + timedelta(microseconds=1))
        change: dict[str, Any] = {"next_run": following}
        if now - latest <= timedelta(seconds=schedule.misfire_grace):
            # The id is made of the time, so that a second worker enqueues the same job, which is none. Enqueued before
            # the state moves on, so that a process that dies in between leaves it due.
            job_id = f"schedule:{schedule.id}:{latest.timestamp():.0f}"
            (job,) = await schedule.task.publish(Call(job_id=job_id, schedule=schedule.id), [((), {})])
            change |= {"last_run": latest, "last_job": job.id}
        else:
            logger.warning("schedule missed its time", schedule=schedule.id, due=latest.isoformat())
        collection = ScheduleModel.get_pymongo_collection()
        await collection.update_one({"_id": schedule.id, "next_run": state.next_run}, {"$set": change})

    async def list(self) -> list[ScheduleView]:
        """All schedules of the code, by name, with their last and next run."""
        known = await ScheduleModel.find({"_id": {"$in": [*self._declared]}}).to_list()
        states = {state.id: state for state in known}
        views = []
        for schedule in sorted(self._declared.values(), key=lambda schedule: schedule.id):
            state = states.get(schedule.id)
            last_job = state.last_job if state else None
            views.append(
                ScheduleView(
                    id=schedule.id,
                    task=schedule.task.name,
                    trigger=str(schedule.trigger),
                    enabled=state.enabled if state else schedule.enabled,
                    next_run=state.next_run if state else next_time(schedule.trigger, None, datetime.now(UTC)),
                    last_run=state.last_run if state else None,
                    last_job=last_job,
                    status=await self._status(state) if state else None,
                )
            )
        return views

    async def _status(self, state: ScheduleModel) -> JobStatus | None:
        if state.last_job is None:
            return None
        status = await self._queue.status(state.last_job)
        if status is JobStatus.UNKNOWN and state.last_status and state.last_ended_job == state.last_job:
            return JobStatus(state.last_status)  # the job's record has expired since
        return status

    async def enable(self, schedule_id: str) -> None:
        """Let it fire again, from now on.

        Args:
            schedule_id: The schedule's id.

        Raises:
            ScheduleError: There is no such schedule.
        """
        next_run = next_time(self._get(schedule_id).trigger, None, datetime.now(UTC))
        await self._set(schedule_id, {"enabled": True, "next_run": next_run})

    async def disable(self, schedule_id: str) -> None:
        """Do not let it fire any more, until it is enabled.

        Args:
            schedule_id: The schedule's id.

        Raises:
            ScheduleError: There is no such schedule.
        """
        self._get(schedule_id)
        await self._set(schedule_id, {"enabled": False})

    async def run_now(self, schedule_id: str) -> str:
        """Enqueue its job now, whether it is enabled or not; its times stay as they are.

        Args:
            schedule_id: The schedule's id.

        Returns:
            The id of the job.

        Raises:
            ScheduleError: There is no such schedule.
        """
        (job,) = await self._get(schedule_id).task.publish(Call(schedule=schedule_id), [((), {})])
        await self._set(schedule_id, {"last_run": datetime.now(UTC), "last_job": job.id})
        return job.id

    def _get(self, schedule_id: str) -> Schedule:
        if schedule_id not in self._declared:
            known = ", ".join(sorted(self._declared)) or "none"
            raise ScheduleError(f"there is no schedule {schedule_id}; those of this service: {known}")
        return self._declared[schedule_id]

    async def _set(self, schedule_id: str, change: dict[str, Any]) -> None:
        await self.register()
        await ScheduleModel.get_pymongo_collection().update_one({"_id": schedule_id}, {"$set": change})

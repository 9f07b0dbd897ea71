"""The schedules of a service: fired, listed, enabled and disabled."""

import asyncio
import random
import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from pymongo import UpdateOne

from core.logging import get_logger
from core.models import ScheduleModel
from core.tasks.engine import Promise
from core.tasks.errors import ScheduleError
from core.tasks.options import Call
from core.tasks.outcome import Envelope
from core.tasks.queue import Queue
from core.tasks.records import JobStatus
from core.tasks.schedules.declarations import BrokenSchedule, DeclaredSchedules, Schedule
from core.tasks.schedules.states import BATCH, ScheduleStates, first_run, first_state
from core.tasks.schedules.triggers import last_and_next

logger = get_logger(__name__)

REGISTER_SECONDS = 10.0
"""How often a worker claims its schedules."""
LOOK_SECONDS = 5.0
"""The longest pause between two searches for schedules that are due.

A schedule that another process enabled is found after this time. The other times are known."""
SPREAD_SECONDS = 0.5
"""Workers search for a due schedule at different times in this period, so that one fires it."""


@dataclass(frozen=True)
class ScheduleView:
    """A schedule as the code declares it, with its state.

    Attributes:
        id: The schedule's id.
        task: The task's name.
        trigger: When the schedule fires, as the code declares it.
        enabled: Whether the schedule fires.
        next_run: When the schedule fires next, or None if it never fires again.
        last_run: The due time of the last run, or None.
        last_job: The id of the last run's job, or None.
        status: The status of that job, or None.
        name: The title for people, or None.
        problem: Why the schedule is broken, or None.
    """

    id: str
    task: str
    trigger: str
    enabled: bool
    next_run: datetime | None
    last_run: datetime | None = None
    last_job: str | None = None
    status: JobStatus | None = None
    name: str | None = None
    problem: str | None = None


@dataclass(frozen=True, slots=True)
class _Run:
    """A run of a schedule: its time, the state from which it was found, and the next time."""

    schedule: Schedule
    due: datetime
    state: dict[str, Any]
    moved: dict[str, Any]


class Schedules:
    """The schedules of this service.

    Attributes:
        broken: The schedules that cannot run.
    """

    def __init__(self, queue: Queue, declared: DeclaredSchedules) -> None:
        self.broken = declared.broken
        self._queue = queue
        self._declared = declared.valid
        self._states = ScheduleStates(declared.valid)
        self._registered_at: float | None = None

    async def tick(self) -> float:
        """Fire the schedules that are due. Any number of workers may do this at the same time.

        Returns:
            Seconds until the next call.
        """
        if not self._declared:
            return LOOK_SECONDS
        now = await self._states.now()
        clock = time.monotonic()
        if self._registered_at is None or clock - self._registered_at >= REGISTER_SECONDS:
            await self._states.register(now)
            self._registered_at = clock
        next_run = await self.fire_due(now)
        wait = max(0.0, (next_run - now).total_seconds())
        return wait + random.uniform(0, SPREAD_SECONDS)

    async def register(self) -> None:
        """Claim the schedules for the definitions of this process."""
        await self._states.register(await self._states.now())

    async def fire_due(self, now: datetime) -> datetime:
        """Enqueue a job for each schedule that is due.

        Args:
            now: The time.

        Returns:
            When to call this again. If a schedule was due, that is at once.
        """
        end = now + timedelta(seconds=LOOK_SECONDS)
        states = await self._states.find_due(end)
        due = [state for state in states if state["next_run"] <= now]
        errors: list[BaseException] = []
        for start in range(0, len(due), BATCH):
            runs = []
            for state in due[start : start + BATCH]:
                try:
                    schedule = self._declared[state["_id"]]
                    latest, following = last_and_next(schedule.trigger, state["next_run"], now)
                    runs.append(_Run(schedule, latest, state, {"next_run": following}))
                except Exception as error:
                    errors.append(error)
                await asyncio.sleep(0)  # this takes longer after an outage
            errors += await self._fire(runs, now)
        # A schedule that fails does not stop the others.
        if errors:
            raise errors[0]
        return min((state["next_run"] for state in states), default=end)

    async def _fire(self, runs: Sequence[_Run], now: datetime) -> Sequence[BaseException]:
        """Enqueue the jobs of some runs together, and return the errors of the runs that failed."""
        is_durable = Promise.DURABLE in self._queue.engine.promises
        if not is_durable:
            # Another process has its own queue, which does not know the ids of this one.
            runs = [run for run in runs if await self._states.change(run.state, run.moved)]
        made = await asyncio.gather(*(_make(run, now) for run in runs), return_exceptions=True)
        envelopes: list[Envelope] = []
        writes, errors = [], []
        for run, result in zip(runs, made, strict=True):
            if isinstance(result, BaseException):
                errors.append(result)
                continue
            change = run.moved | {"missed_run": None if result else run.due}
            for envelope in result:
                envelopes.append(envelope)
                change = {**change, "last_run": run.due, "last_job": envelope.id}
            state = run.state if is_durable else run.state | run.moved
            writes.append(UpdateOne(state, {"$set": change}))
        # The id contains the time, so a second worker that enqueues the same run creates no second
        # job. The next run is stored after the job is enqueued. If the process ends in between,
        # the schedule is still due.
        await self._queue.send(envelopes)
        await self._states.write(writes)
        return errors

    async def list(self) -> list[ScheduleView]:
        """Return all schedules, sorted by id."""
        states = await self._states.read()
        now = await self._states.now()
        views = [_view_broken(broken) for broken in self.broken]
        for schedule in self._declared.values():
            state = states.get(schedule.id)
            if state is None:
                state = ScheduleModel(id=schedule.id, **first_state(schedule, now))
            views.append(await self._view(schedule, state))
        return sorted(views, key=lambda view: view.id)

    async def _view(self, schedule: Schedule, state: ScheduleModel) -> ScheduleView:
        return ScheduleView(
            id=schedule.id,
            task=schedule.task.name,
            trigger=schedule.description,
            enabled=state.enabled,
            next_run=state.next_run,
            last_run=state.last_run,
            last_job=state.last_job,
            status=await self._status(state),
            name=schedule.options.name,
        )

    async def _status(self, state: ScheduleModel) -> JobStatus | None:
        if state.last_job is None:
            return None
        record = await self._queue.read(state.last_job)
        has_expired = record.status is JobStatus.UNKNOWN
        if has_expired and state.last_status and state.last_ended_job == state.last_job:
            return JobStatus(state.last_status)
        return record.status

    async def enable(self, schedule_id: str) -> None:
        """Let a schedule fire from now on.

        Args:
            schedule_id: The schedule's id.

        Raises:
            ScheduleError: There is no such schedule, or it never fires again.
        """
        schedule = self._get(schedule_id)
        now = await self._states.now()
        next_run = first_run(schedule, now)
        if next_run is None:
            hint = f"`just schedules run {schedule_id}` runs it once"
            raise ScheduleError(f"schedule {schedule_id} never fires again; {hint}")
        await self._states.add(schedule, now)
        disabled = {"_id": schedule_id, "enabled": False}
        await self._states.change(disabled, {"enabled": True, "next_run": next_run})

    async def disable(self, schedule_id: str) -> None:
        """Stop a schedule from firing until it is enabled again.

        Args:
            schedule_id: The schedule's id.

        Raises:
            ScheduleError: There is no such schedule.
        """
        schedule = self._get(schedule_id)
        await self._set(schedule, {"enabled": False})

    async def run_now(self, schedule_id: str) -> str:
        """Enqueue a schedule's job now, even if the schedule is disabled.

        The schedule's next run stays the same.

        Args:
            schedule_id: The schedule's id.

        Returns:
            The id of the job.

        Raises:
            ScheduleError: There is no such schedule.
        """
        schedule = self._get(schedule_id)
        # The job's end is noted in the state, so the state must exist before the job.
        await self._states.add(schedule, await self._states.now())
        call = Call(schedule.task.name, schedule=schedule_id)
        args, kwargs = schedule.arguments
        job = await schedule.task.submit(call, *args, **kwargs)
        run = {"last_run": await self._states.now(), "last_job": job.id}
        await self._set(schedule, run)
        return job.id

    def _get(self, schedule_id: str) -> Schedule:
        if schedule_id in self._declared:
            return self._declared[schedule_id]
        for broken in self.broken:
            if broken.id == schedule_id:
                raise ScheduleError(f"schedule {schedule_id} is broken: {broken.problem}")
        known = ", ".join(sorted(self._declared)) or "none"
        problem = f"there is no schedule {schedule_id}"
        raise ScheduleError(f"{problem}; this service has: {known}")

    async def _set(self, schedule: Schedule, change: dict[str, Any]) -> None:
        await self._states.add(schedule, await self._states.now())
        await self._states.change({"_id": schedule.id}, change)


def _view_broken(broken: BrokenSchedule) -> ScheduleView:
    return ScheduleView(
        id=broken.id,
        task=broken.task,
        trigger=broken.trigger,
        enabled=False,
        next_run=None,
        name=broken.name,
        problem=broken.problem,
    )


async def _make(run: _Run, now: datetime) -> list[Envelope]:
    """Return the message of a run, or no message if the run is too late."""
    timestamp = run.due.timestamp()
    schedule = run.schedule
    options = schedule.options
    if now - run.due > timedelta(seconds=options.misfire_grace):
        due = run.due.isoformat()
        logger.warning("schedule missed its time", schedule=schedule.id, due=due)
        return []
    call = Call(
        schedule.task.name,
        at=timestamp + random.uniform(0, options.jitter) if options.jitter else None,
        # Runs are at least a second apart, so the whole seconds tell them apart.
        job_id=f"schedule:{schedule.id}:{int(timestamp)}",
        schedule=schedule.id,
    )
    envelopes, _ = await schedule.task.prepare(call, [schedule.arguments])
    return [*envelopes]

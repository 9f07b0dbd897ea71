"""The schedules that the code declares."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Any, TypeVar, cast

from apscheduler.triggers.base import BaseTrigger

from core.logging import get_logger
from core.tasks.errors import InvalidArguments, InvalidTask
from core.tasks.registry import Registry
from core.tasks.schedules import Schedule
from core.tasks.task import AnyTask, Task
from core.tasks.triggers import crontab_trigger, make_trigger

T = TypeVar("T")

MakeTrigger = Callable[[str], BaseTrigger]
"""Makes a trigger from the default time zone."""

logger = get_logger(__name__)


@dataclass(frozen=True)
class Declaration:
    """A schedule as it was declared, before the settings are known.

    Attributes:
        task: The task to run.
        make_trigger: Makes the trigger.
        options: `id`, `enabled` and `misfire_grace`, if they were given.
    """

    task: AnyTask
    make_trigger: MakeTrigger
    options: dict[str, Any]


class ScheduleRegistry(Registry):
    """Tasks by name, and the schedules that the code declares."""

    def __init__(self) -> None:
        super().__init__()
        self._declared: list[Declaration] = []

    def cron(
        self,
        expression: str,
        *,
        timezone: str | None = None,
        **options: Any,
    ) -> Callable[[T], T]:
        """Run a task at the times of a crontab line: `@worker.cron("0 */6 * * *")`.

        Use it above `@worker.task`, or instead of it.

        Args:
            expression: Minute, hour, day, month and weekday. Sunday is 0 or 7.
            timezone: A time zone such as `Europe/Berlin`; defaults to `SCHEDULE_TIMEZONE`.
            **options: `id`, `enabled` and `misfire_grace`: see `core.tasks.schedules.Schedule`.
        """
        return self._scheduled(
            lambda default_zone: crontab_trigger(expression, timezone or default_zone),
            options,
        )

    def every(
        self,
        *,
        weeks: int = 0,
        days: int = 0,
        hours: int = 0,
        minutes: int = 0,
        seconds: int = 0,
        **options: Any,
    ) -> Callable[[T], T]:
        """Run a task at an interval: `@worker.every(hours=1)`.

        Args:
            weeks: Weeks of the interval.
            days: Days of the interval.
            hours: Hours of the interval.
            minutes: Minutes of the interval.
            seconds: Seconds of the interval.
            **options: `id`, `enabled` and `misfire_grace`: see `core.tasks.schedules.Schedule`.
        """
        interval = {
            "weeks": weeks,
            "days": days,
            "hours": hours,
            "minutes": minutes,
            "seconds": seconds,
        }
        return self._scheduled(
            lambda zone: make_trigger("interval", zone, **interval),
            options,
        )

    def at(self, run_date: str | datetime, **options: Any) -> Callable[[T], T]:
        """Run a task once: `@worker.at("2027-01-01T00:00:00Z")`.

        Args:
            run_date: The time. A time without a zone is in the zone of `SCHEDULE_TIMEZONE`.
            **options: `id`, `enabled` and `misfire_grace`: see `core.tasks.schedules.Schedule`.
        """
        return self._scheduled(
            lambda zone: make_trigger("date", zone, run_date=run_date),
            options,
        )

    def schedule(
        self,
        func: Callable[..., Any],
        trigger: str,
        id: str | None = None,
        *,
        enabled: bool = True,
        misfire_grace: float = 3600,
        max_retries: int | None = None,
        timeout: float | None = None,
        **trigger_args: Any,
    ) -> None:
        """Register a schedule: `worker.schedule(clean_up, trigger="cron", hour=0, minute=0)`.

        Args:
            func: A task, or a function that becomes one.
            trigger: `cron`, `interval` or `date`.
            id: The schedule's id; defaults to the task's name.
            enabled: Whether the new schedule fires.
            misfire_grace: The longest delay of a run, in seconds.
            max_retries: Retries of the new task; ignored if `func` is a task.
            timeout: Timeout of the new task, in seconds; ignored if `func` is a task.
            **trigger_args: The arguments of APScheduler's trigger.
        """
        if not isinstance(func, Task):
            func = self.task(max_retries=max_retries, timeout=timeout)(func)
        options = {
            "id": id,
            "enabled": enabled,
            "misfire_grace": misfire_grace,
        }
        declare = self._scheduled(
            lambda zone: make_trigger(trigger, zone, **trigger_args),
            options,
        )
        declare(func)

    def _scheduled(self, make: MakeTrigger, options: dict[str, Any]) -> Callable[[T], T]:
        """Return a decorator that declares a schedule of a task, or of a function."""
        given = {name: value for name, value in options.items() if value is not None}

        def declare(function: T) -> T:
            if isinstance(function, Task):
                task: AnyTask = function
            else:
                task = self.task(cast("Callable[..., Any]", function))
            self._declared.append(Declaration(task, make, given))
            return cast(T, task)

        return declare

    def make_schedules(self, timezone: str) -> dict[str, Schedule]:
        """Build every valid schedule. Invalid ones are logged and skipped.

        Args:
            timezone: The time zone of schedules that name none.
        """
        schedules: dict[str, Schedule] = {}
        for declaration in self._declared:
            try:
                schedule = _make_schedule(declaration, timezone)
                if schedule.id in schedules:
                    hint = "give one of them another id"
                    raise InvalidTask(f"another schedule has this id; {hint}")
            except (InvalidTask, InvalidArguments, TypeError) as error:
                reason = str(error)
                logger.error("schedule skipped", task=declaration.task.name, error=reason)
            else:
                schedules[schedule.id] = schedule
        return schedules


def _make_schedule(declaration: Declaration, timezone: str) -> Schedule:
    task = declaration.task
    options = {"id": task.name, **declaration.options}
    trigger = declaration.make_trigger(timezone)
    schedule = Schedule(task=task, trigger=trigger, **options)
    # A schedule passes no arguments, so a task that needs some is reported here.
    task.arguments.dump((), {})
    return schedule

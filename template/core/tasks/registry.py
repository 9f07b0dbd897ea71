"""The tasks and schedules that the code declares."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Coroutine
from concurrent.futures import Executor
from dataclasses import dataclass
from datetime import datetime
from typing import Any, ParamSpec, Protocol, TypeVar, cast, overload

from apscheduler.triggers.base import BaseTrigger

from core.logging import get_logger
from core.tasks.errors import InvalidArguments, InvalidTask
from core.tasks.options import TaskOptions
from core.tasks.queue import Queue
from core.tasks.schedules import Schedule
from core.tasks.task import Task
from core.tasks.triggers import crontab_trigger, make_trigger

P = ParamSpec("P")
R = TypeVar("R")
T = TypeVar("T")

MakeTrigger = Callable[[str], BaseTrigger]
"""Makes a trigger, given the default time zone."""

logger = get_logger(__name__)


@dataclass(frozen=True)
class Declaration:
    """A schedule as it was declared, before the settings are known.

    Attributes:
        task: The task to run.
        make_trigger: Makes the trigger.
        options: `id`, `enabled` and `misfire_grace`, if they were given.
    """

    task: Task[..., Any]
    make_trigger: MakeTrigger
    options: dict[str, Any]


class TaskDecorator(Protocol):
    """The type of `worker.task(...)`: takes a function and returns its task."""

    @overload
    def __call__(self, function: Callable[P, Coroutine[Any, Any, R]], /) -> Task[P, R]: ...

    @overload
    def __call__(self, function: Callable[P, R], /) -> Task[P, R]: ...


class Registry(ABC):
    """Tasks and schedules by name.

    Attributes:
        tasks: The tasks by name.
        threads: Threads for plain functions; None while no service is open.
    """

    def __init__(self) -> None:
        self.tasks: dict[str, Task[..., Any]] = {}
        self.threads: Executor | None = None
        self._declared: list[Declaration] = []

    @property
    @abstractmethod
    def queue(self) -> Queue:
        """The open queue."""

    @overload
    def task(self, function: Callable[P, Coroutine[Any, Any, R]], /) -> Task[P, R]: ...

    @overload
    def task(self, function: Callable[P, R], /) -> Task[P, R]: ...

    @overload
    def task(
        self,
        /,
        *,
        name: str | None = None,
        max_retries: int | None = None,
        retry_delay: float = 10,
        retry_max_delay: float = 3600,
        timeout: float | None = None,
        priority: str = "normal",
        expires: float | None = None,
        unique: bool = False,
        idempotency_key: Callable[..., object] | None = None,
    ) -> TaskDecorator: ...

    def task(
        self,
        function: Callable[..., Any] | None = None,
        /,
        *,
        name: str | None = None,
        **options: Any,
    ) -> Any:
        """Register a function as a task, as `@worker.task` or with options.

        Args:
            function: A coroutine function, or a plain one, which runs in a thread.
            name: The name of the task; defaults to the function's name.
            **options: See `core.tasks.options.TaskOptions`.

        Raises:
            InvalidTask: Another task has this name.
        """
        task_options = TaskOptions(**options)

        def register(function: Callable[..., Any]) -> Task[..., Any]:
            task_name = name or function.__name__
            if task_name in self.tasks:
                hint = "give one of them another name"
                raise InvalidTask(f"two tasks are named {task_name}; {hint}")
            task: Task[..., Any] = Task(task_name, function, task_options, self)
            self.tasks[task_name] = task
            return task

        return register(function) if function else register

    def cron(
        self,
        expression: str,
        *,
        timezone: str | None = None,
        **options: Any,
    ) -> Callable[[T], T]:
        """Run a task by a crontab line: `@worker.cron("0 */6 * * *")`.

        Use it above `@worker.task`, or instead of it.

        Args:
            expression: Minute, hour, day, month and weekday (0 and 7 are Sunday).
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
        return self._scheduled(lambda zone: make_trigger("interval", zone, **interval), options)

    def at(self, run_date: str | datetime, **options: Any) -> Callable[[T], T]:
        """Run a task once: `@worker.at("2027-01-01T00:00:00Z")`.

        Args:
            run_date: The time; without a zone it is in the zone of `SCHEDULE_TIMEZONE`.
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
            enabled: Whether the schedule fires before somebody enables or disables it.
            misfire_grace: Seconds by which the schedule may fire late.
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
        given = {name: value for name, value in options.items() if value is not None}

        def declare(function: T) -> T:
            if isinstance(function, Task):
                task: Task[..., Any] = function
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
                logger.error(
                    "schedule skipped",
                    task=declaration.task.name,
                    error=str(error),
                )
            else:
                schedules[schedule.id] = schedule
        return schedules


def _make_schedule(declaration: Declaration, timezone: str) -> Schedule:
    task = declaration.task
    options = {"id": task.name, **declaration.options}
    schedule = Schedule(task=task, trigger=declaration.make_trigger(timezone), **options)
    task.arguments.dump((), {})  # a schedule passes no arguments
    return schedule

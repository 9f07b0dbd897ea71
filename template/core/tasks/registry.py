"""What the code declares: tasks, and when they run by themselves."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Coroutine
from concurrent.futures import Executor
from datetime import datetime
from typing import Any, ParamSpec, Protocol, TypeVar, cast, overload

from apscheduler.triggers.base import BaseTrigger

from core.logging import get_logger
from core.tasks.errors import InvalidArguments, InvalidTask
from core.tasks.queue import Queue
from core.tasks.schedules import Schedule
from core.tasks.task import Task, TaskOptions
from core.tasks.triggers import crontab_trigger, make_trigger

P = ParamSpec("P")
R = TypeVar("R")
T = TypeVar("T")

Declaration = tuple[Task[..., Any], Callable[[str], BaseTrigger], dict[str, Any]]

logger = get_logger(__name__)


class TaskDecorator(Protocol):
    """The type of `worker.task(...)`: takes a function, returns its task."""

    @overload
    def __call__(self, function: Callable[P, Coroutine[Any, Any, R]], /) -> Task[P, R]: ...

    @overload
    def __call__(self, function: Callable[P, R], /) -> Task[P, R]: ...


class Registry(ABC):
    """Tasks and schedules by name."""

    def __init__(self) -> None:
        self.tasks: dict[str, Task[..., Any]] = {}
        self._declared: list[Declaration] = []
        self.threads: Executor | None = None

    @property
    @abstractmethod
    def queue(self) -> Queue:
        """Where the tasks' jobs go."""

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

    def task(self, function: Callable[..., Any] | None = None, /, *, name: str | None = None, **options: Any) -> Any:
        """Register a function as a task, bare (`@worker.task`) or with options.

        Args:
            function: A coroutine function, or a plain one, which runs in a thread.
            name: What its jobs are called in the queue; the function's name where None.
            **options: The fields of `core.tasks.TaskOptions`.

        Raises:
            InvalidTask: Another function has this name.
        """
        chosen_options = TaskOptions(**options)

        def register(function: Callable[..., Any]) -> Task[..., Any]:
            chosen = name or function.__name__
            if chosen in self.tasks:
                raise InvalidTask(f"two tasks are named {chosen}; give one of them another name")
            task: Task[..., Any] = Task(chosen, function, chosen_options, self)
            self.tasks[chosen] = task
            return task

        return register(function) if function else register

    def cron(self, expression: str, *, timezone: str | None = None, **options: Any) -> Callable[[T], T]:
        """Run a task by a crontab line: `@worker.cron("0 */6 * * *")`, above `@worker.task` or in its place.

        Args:
            expression: Minute, hour, day, month and weekday (0 and 7 are Sunday).
            timezone: Such as `Europe/Berlin`; the setting `SCHEDULE_TIMEZONE` where None.
            **options: `id`, the schedule's id, by default the task's name; `enabled=False`, if it should
                not fire before somebody enables it; `misfire_grace`, the seconds by which it may fire
                late, by default 3600.
        """
        return self._scheduled(lambda zone: crontab_trigger(expression, timezone or zone), options)

    def every(
        self, *, weeks: int = 0, days: int = 0, hours: int = 0, minutes: int = 0, seconds: int = 0, **options: Any
    ) -> Callable[[T], T]:
        """Run a task at an interval, the sum of its arguments: `@worker.every(hours=1)`.

        Args:
            weeks: Weeks between two runs.
            days: Days between two runs.
            hours: Hours between two runs.
            minutes: Minutes between two runs.
            seconds: Seconds between two runs.
            **options: As for `cron`.
        """
        interval = {"weeks": weeks, "days": days, "hours": hours, "minutes": minutes, "seconds": seconds}
        return self._scheduled(lambda zone: make_trigger("interval", zone, **interval), options)

    def at(self, run_date: str | datetime, **options: Any) -> Callable[[T], T]:
        """Run a task once: `@worker.at("2027-01-01T00:00:00Z")`.

        Args:
            run_date: When, as a time or in ISO 8601. Without a zone it is one of `SCHEDULE_TIMEZONE`.
            **options: As for `cron`.
        """
        return self._scheduled(lambda zone: make_trigger("date", zone, run_date=run_date), options)

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
        """Register a schedule by hand: `worker.schedule(clean_up, trigger="cron", id="clean", hour=0, minute=0)`.

        Args:
            func: A task, or a function that becomes one.
            trigger: `cron`, `interval` or `date`.
            id: Its name; the task's where None.
            enabled: Whether it fires until someone says otherwise.
            misfire_grace: Seconds by which it may fire late.
            max_retries: Of the task, where the function is none yet.
            timeout: Of the task, in seconds, where the function is none yet.
            **trigger_args: Those of APScheduler's trigger.
        """
        if not isinstance(func, Task):
            func = self.task(max_retries=max_retries, timeout=timeout)(func)
        options = {"id": id, "enabled": enabled, "misfire_grace": misfire_grace}
        self._scheduled(lambda zone: make_trigger(trigger, zone, **trigger_args), options)(func)

    def _scheduled(self, make: Callable[[str], BaseTrigger], options: dict[str, Any]) -> Callable[[T], T]:
        def declare(function: T) -> T:
            task = function if isinstance(function, Task) else self.task(cast("Callable[..., Any]", function))
            chosen = {name: value for name, value in options.items() if value is not None}
            self._declared.append((task, make, chosen))
            return cast(T, task)

        return declare

    def make_schedules(self, timezone: str) -> dict[str, Schedule]:
        """Those that can be; what is wrong with the others is logged, and stops none of these."""
        schedules: dict[str, Schedule] = {}
        for task, make, options in self._declared:
            try:
                schedule = Schedule(**{"id": task.name, **options, "task": task, "trigger": make(timezone)})
                if schedule.id in schedules:
                    raise InvalidTask("another schedule has this id; give one of them another id")
                task.arguments.dump((), {})
                schedules[schedule.id] = schedule
            except (InvalidTask, InvalidArguments, TypeError) as error:
                logger.error("schedule left out", task=task.name, error=str(error))
        return schedules

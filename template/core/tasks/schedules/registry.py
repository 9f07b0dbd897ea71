"""The decorators that declare schedules."""

from abc import abstractmethod
from collections import Counter
from collections.abc import Callable, Coroutine, Mapping
from datetime import date
from typing import Any, Literal, ParamSpec, Protocol, TypeVar, Unpack, cast, overload

from core.tasks.errors import InvalidTask, ScheduleError
from core.tasks.registry import Registry
from core.tasks.schedules.declarations import Declaration
from core.tasks.schedules.options import (
    CronArguments,
    DateArguments,
    IntervalArguments,
    NewTaskOptions,
    ScheduleOptions,
)
from core.tasks.task import AnyTask, Task

P = ParamSpec("P")
R = TypeVar("R")

_LIMITS = NewTaskOptions.__optional_keys__


class ScheduleDecorator(Protocol):
    """The type of `worker.every(...)`: takes a task or a function, and returns the task."""

    @overload
    def __call__(self, function: Task[P, R], /) -> Task[P, R]: ...

    @overload
    def __call__(self, function: Callable[P, Coroutine[Any, Any, R]], /) -> Task[P, R]: ...

    @overload
    def __call__(self, function: Callable[P, R], /) -> Task[P, R]: ...


class ScheduleRegistry(Registry):
    """Tasks by name, and the schedules that the code declares.

    The declarations are checked when the service starts, because they need the settings.
    """

    def __init__(self) -> None:
        super().__init__()
        self._declared: list[Declaration] = []
        self._unnamed: Counter[str] = Counter()

    @property
    @abstractmethod
    def is_open(self) -> bool:
        """Whether the service is running in this process."""

    def cron(self, expression: str, **options: Unpack[ScheduleOptions]) -> ScheduleDecorator:
        """Run a task at the times of a crontab line: `@worker.cron("0 */6 * * *")`.

        Use it above `@worker.task`, or instead of it.

        Args:
            expression: Minute, hour, day, month and weekday. Sunday is 0 or 7.
            **options: See `ScheduleOptions`.

        Raises:
            InvalidTask: The expression is missing.
        """
        if not isinstance(expression, str):
            raise InvalidTask('write @worker.cron("0 */6 * * *"), with a crontab line')
        return self._decorator("crontab", {"expression": expression, **options})

    def every(
        self,
        *,
        weeks: int = 0,
        days: int = 0,
        hours: int = 0,
        minutes: int = 0,
        seconds: int = 0,
        **options: Unpack[ScheduleOptions],
    ) -> ScheduleDecorator:
        """Run a task at an interval: `@worker.every(hours=1)`.

        Args:
            weeks: Weeks of the interval.
            days: Days of the interval.
            hours: Hours of the interval.
            minutes: Minutes of the interval.
            seconds: Seconds of the interval.
            **options: See `ScheduleOptions`.
        """
        interval = {
            "weeks": weeks,
            "days": days,
            "hours": hours,
            "minutes": minutes,
            "seconds": seconds,
        }
        return self._decorator("interval", {**interval, **options})

    def at(self, run_date: str | date, **options: Unpack[ScheduleOptions]) -> ScheduleDecorator:
        """Run a task once: `@worker.at("2027-01-01T00:00:00Z")`.

        Args:
            run_date: The time. A time without a zone is in the schedule's time zone.
            **options: See `ScheduleOptions`.

        Raises:
            InvalidTask: The time is missing.
        """
        if not isinstance(run_date, str | date):
            raise InvalidTask('write @worker.at("2027-01-01T00:00:00Z"), with a time')
        return self._decorator("date", {"run_date": run_date, **options})

    @overload
    def schedule(
        self,
        func: Callable[..., Any],
        trigger: Literal["cron"],
        **arguments: Unpack[CronArguments],
    ) -> None: ...

    @overload
    def schedule(
        self,
        func: Callable[..., Any],
        trigger: Literal["interval"],
        **arguments: Unpack[IntervalArguments],
    ) -> None: ...

    @overload
    def schedule(
        self,
        func: Callable[..., Any],
        trigger: Literal["date"],
        **arguments: Unpack[DateArguments],
    ) -> None: ...

    def schedule(self, func: Callable[..., Any], trigger: str, **arguments: Any) -> None:
        """Declare a schedule: `worker.schedule(clean_up, trigger="cron", hour=0, minute=0)`.

        Args:
            func: A task, or a function that becomes one.
            trigger: `cron`, `interval` or `date`.
            **arguments: The arguments of APScheduler's trigger, the options in `ScheduleOptions`,
                and `max_retries` and `timeout` of the new task. In a cron trigger, weekday 0 is
                Monday.

        Raises:
            InvalidTask: `func` is not a function, or has other values of `max_retries` or
                `timeout`, because it is a task already.
            ScheduleError: The service is running in this process.
        """
        limits = {name: arguments.pop(name) for name in _LIMITS if name in arguments}
        self._declare(func, trigger, arguments, limits)

    def _decorator(self, kind: str, arguments: Mapping[str, Any]) -> ScheduleDecorator:
        def declare(function: Callable[..., Any]) -> AnyTask:
            return self._declare(function, kind, arguments, {})

        return cast(ScheduleDecorator, declare)

    def _declare(
        self,
        function: Callable[..., Any],
        kind: str,
        arguments: Mapping[str, Any],
        limits: Mapping[str, Any],
    ) -> AnyTask:
        if self.is_open:
            rule = "declare schedules in a module that is imported before the service starts"
            hint = "for one later run, use task.using(run_at=...)"
            raise ScheduleError(f"the service is already running: {rule}; {hint}")
        task = self._find_task(function, limits)
        schedule_id = arguments.get("id")
        if schedule_id is None:
            schedule_id = self._next_id(task.name)
        self._declared.append(Declaration(schedule_id, task, kind, arguments))
        return task

    def _find_task(self, function: Callable[..., Any], limits: Mapping[str, Any]) -> AnyTask:
        """Return the task of a function. A function without a task is registered as one."""
        for task in self.tasks.values():
            if function in (task, task.function):
                _check_limits(task, limits)
                return task
        if isinstance(function, Task) or not hasattr(function, "__name__"):
            rule = "a schedule runs a function, or a task of its worker"
            raise InvalidTask(f"{rule}, not {function!r}")
        register: Callable[..., AnyTask] = self.task(**limits)
        return register(function)

    def _next_id(self, task: str) -> str:
        self._unnamed[task] += 1
        number = self._unnamed[task]
        return task if number == 1 else f"{task}:{number}"


def _check_limits(task: AnyTask, limits: Mapping[str, Any]) -> None:
    for name, value in limits.items():
        if value not in (None, getattr(task.options, name)):
            hint = f"set {name} where the task is registered"
            raise InvalidTask(f"task {task.name} exists already, with another {name}; {hint}")

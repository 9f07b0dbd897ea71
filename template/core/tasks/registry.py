"""The tasks that the code declares."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Coroutine, Sequence
from inspect import isasyncgenfunction, iscoroutinefunction, isgeneratorfunction
from typing import Any, ParamSpec, Protocol, TypeVar, overload

from anyio import CapacityLimiter

from core.tasks.errors import InvalidTask
from core.tasks.limits import Limit
from core.tasks.options import make_options
from core.tasks.portal import Portal
from core.tasks.queue import Queue
from core.tasks.task import AnyTask, Task

P = ParamSpec("P")
R = TypeVar("R")


class TaskDecorator(Protocol):
    """The type of `worker.task(...)`: takes a function and returns its task."""

    @overload
    def __call__(self, function: Callable[P, Coroutine[Any, Any, R]], /) -> Task[P, R]: ...

    @overload
    def __call__(self, function: Callable[P, R], /) -> Task[P, R]: ...


class Registry(ABC):
    """Tasks by name.

    Attributes:
        tasks: The tasks by name.
        thread_limiter: Limits the threads of direct calls; None while no service is open.
    """

    def __init__(self) -> None:
        self.tasks: dict[str, AnyTask] = {}
        self.thread_limiter: CapacityLimiter | None = None

    @property
    @abstractmethod
    def queue(self) -> Queue:
        """The open queue."""

    @property
    @abstractmethod
    def portal(self) -> Portal:
        """The way from plain functions to the event loop of the service."""

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
        jitter: bool = True,
        timeout: float | None = None,
        soft_time_limit: float | None = None,
        time_limit: float | None = None,
        process: bool = False,
        memory_limit: int | None = None,
        priority: str = "normal",
        expires: float | None = None,
        unique: bool = False,
        idempotency_key: Callable[..., object] | None = None,
        limit: Limit | Sequence[Limit] = (),
    ) -> TaskDecorator: ...

    def task(
        self,
        function: Callable[..., Any] | None = None,
        /,
        *,
        name: str | None = None,
        **options: Any,
    ) -> Any:
        """Register a function as a task, by `@worker.task` or `@worker.task(timeout=60)`.

        Args:
            function: A coroutine function, or a plain function, which runs in a thread or, with
                `process=True`, in a child process.
            name: The name of the task; defaults to the function's name.
            **options: See `core.tasks.options.TaskOptions`.

        Raises:
            InvalidTask: Another task has this name, or an option is unknown or has a wrong value.
        """

        def register(function: Callable[..., Any]) -> AnyTask:
            task_name = _name_of(function, name)
            if task_name in self.tasks:
                hint = "give one of them another name"
                raise InvalidTask(f"two tasks are named {task_name}; {hint}")
            task_options = make_options(task_name, options)
            if task_options.process and not _is_importable(function):
                hint = "process=True takes a plain function of a module"
                raise InvalidTask(f"task {task_name}: {hint}")
            self.tasks[task_name] = Task(task_name, function, task_options, self)
            return self.tasks[task_name]

        return register if function is None else register(function)


def _is_importable(function: Callable[..., Any]) -> bool:
    """Return whether a child process can find a function by its module and name, and call it."""
    is_global = getattr(function, "__qualname__", "") == getattr(function, "__name__", None)
    return is_global and not iscoroutinefunction(function)


def _name_of(function: Any, name: str | None) -> str:
    """Return the name of the task that a function becomes."""
    if isinstance(function, Task):
        hint = "put @worker.task below the decorator of the schedule"
        raise InvalidTask(f"{function.name} is a task already; {hint}")
    if not callable(function):
        raise InvalidTask(f"worker.task takes a function, not {function!r}")
    task_name = name or getattr(function, "__name__", None)
    if task_name is None:
        raise InvalidTask(f"{function!r} has no name; give the task one: worker.task(name=...)")
    if "." in getattr(function, "__qualname__", "").rpartition("<locals>.")[2]:
        raise InvalidTask(f"task {task_name}: a method cannot be a task; use a function")
    if isgeneratorfunction(function) or isasyncgenfunction(function):
        raise InvalidTask(f"task {task_name}: a task returns its result, and cannot use `yield`")
    return str(task_name)

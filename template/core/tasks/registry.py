"""The tasks that the code declares."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Coroutine
from concurrent.futures import Executor
from typing import Any, ParamSpec, Protocol, TypeVar, overload

from core.tasks.errors import InvalidTask
from core.tasks.options import TaskOptions
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
        threads: Threads for plain functions; None while no service is open.
    """

    def __init__(self) -> None:
        self.tasks: dict[str, AnyTask] = {}
        self.threads: Executor | None = None

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
        """Register a function as a task, by `@worker.task` or `@worker.task(timeout=60)`.

        Args:
            function: A coroutine function, or a plain function, which runs in a thread.
            name: The name of the task; defaults to the function's name.
            **options: See `core.tasks.options.TaskOptions`.

        Raises:
            InvalidTask: Another task has this name.
        """
        task_options = TaskOptions(**options)

        def register(function: Callable[..., Any]) -> AnyTask:
            task_name = name or function.__name__
            if task_name in self.tasks:
                hint = "give one of them another name"
                raise InvalidTask(f"two tasks are named {task_name}; {hint}")
            self.tasks[task_name] = Task(task_name, function, task_options, self)
            return self.tasks[task_name]

        return register(function) if function else register

"""A task: a function that can be called directly, or enqueued as a job."""

import inspect
from collections.abc import Callable, Coroutine, Iterable, Mapping, Sequence
from datetime import datetime
from functools import partial, update_wrapper
from typing import (
    Any,
    Concatenate,
    ParamSpec,
    TypeVar,
    cast,
    overload,
)

from anyio import CapacityLimiter

from core.tasks.bound import Bindable, BoundTask
from core.tasks.chain import Chain
from core.tasks.child_processes import run_in_child
from core.tasks.errors import InvalidArguments
from core.tasks.job import Job
from core.tasks.limits import check_keys
from core.tasks.options import Call, TaskOptions, check_priority
from core.tasks.portal import run_or_return, run_sync
from core.tasks.producer import ArgsAndKwargs, Producer, TaskOwner
from core.threads import run_in_thread

P = ParamSpec("P")
R = TypeVar("R")
R2 = TypeVar("R2")


class Task(Bindable[P, R], Producer[R]):
    """A registered function. A call runs it directly; `enqueue` makes a job.

    Attributes:
        name: The name that jobs carry in the queue.
        function: The function.
        options: How the task's jobs run.
    """

    def __init__(
        self,
        name: str,
        function: Callable[P, Any],
        options: TaskOptions,
        owner: TaskOwner,
    ) -> None:
        check_priority(name, options.priority)
        super().__init__(name, function, options, owner)
        self._is_async = inspect.iscoroutinefunction(function)
        check_keys(name, options.limit, function)
        update_wrapper(self, function)

    def __repr__(self) -> str:
        return f"Task({self.name!r})"

    async def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R:
        """Run the function directly. A plain function runs in a thread, or in a child process.

        A thread cannot be cancelled: after a timeout it keeps running.
        """
        return await self._run(self._owner.thread_limiter, *args, **kwargs)

    def run_as_job(self, *args: P.args, **kwargs: P.kwargs) -> Coroutine[Any, Any, R]:
        """Run the function for a job. A plain function runs in a thread that only this job uses.

        The engine limits the number of jobs, and with it the number of these threads.
        """
        return self._run(None if self._is_async else CapacityLimiter(1), *args, **kwargs)

    async def _run(
        self,
        limiter: CapacityLimiter | None,
        *args: P.args,
        **kwargs: P.kwargs,
    ) -> R:
        if self._is_async:
            return cast(R, await self.function(*args, **kwargs))
        if self.options.process:
            memory_limit = self.options.memory_limit
            return cast(R, await run_in_child(self.function, args, kwargs, memory_limit))
        call = partial(self.function, *args, **kwargs)
        return await run_in_thread(call, limiter)

    @overload
    def enqueue(self, *args: P.args, **kwargs: P.kwargs) -> Coroutine[Any, Any, Job[R]]: ...

    @overload
    def enqueue(
        self,
        *args: Any,
        scheduled_at: datetime,
        **kwargs: Any,
    ) -> Coroutine[Any, Any, Job[R]]: ...

    def enqueue(self, *args: Any, **kwargs: Any) -> Coroutine[Any, Any, Job[R]]:
        """Queue a job that calls the function with these arguments.

        In async code, await it. In a plain function that runs in a thread (a plain task or route,
        a script), it queues the job before it returns; `enqueue_sync` is the same with the right
        type.

        Args:
            *args: The function's positional arguments, checked against its annotations.
            **kwargs: The function's keyword arguments, checked in the same way. `scheduled_at`
                is short for `using(run_at=...)`.

        Raises:
            InvalidArguments: An argument does not fit; the message names the parameter.
            QueueUnavailable: The queue's server cannot be reached, or did not answer.
        """
        return run_or_return(self, partial(self._enqueue, *args, **kwargs))

    delay = enqueue
    """Another name for `enqueue`."""

    @overload
    def enqueue_sync(self, *args: P.args, **kwargs: P.kwargs) -> Job[R]: ...

    @overload
    def enqueue_sync(self, *args: Any, scheduled_at: datetime, **kwargs: Any) -> Job[R]: ...

    def enqueue_sync(self, *args: Any, **kwargs: Any) -> Job[R]:
        """Queue a job from a plain function, and wait until it is queued.

        The job gets the correlation id and the owner of the calling code. In a MongoDB
        transaction, it is delivered after the commit.

        Args:
            *args: The function's positional arguments, checked against its annotations.
            **kwargs: The function's keyword arguments, checked in the same way. `scheduled_at`
                is short for `using(run_at=...)`.

        Raises:
            InvalidArguments: An argument does not fit; the message names the parameter.
            QueueUnavailable: The queue's server cannot be reached, or did not answer.
            RuntimeError: An event loop runs in this thread, or the service is closing.
        """
        return run_sync(self, partial(self._enqueue, *args, **kwargs))

    async def _enqueue(self, *args: Any, **kwargs: Any) -> Job[R]:
        if "scheduled_at" in kwargs:
            bound = self.using(run_at=kwargs.pop("scheduled_at"))
            return await self.submit(bound.call, *args, **kwargs)
        return await self.submit(Call(self.name), *args, **kwargs)

    def enqueue_many(
        self,
        calls: Iterable[Sequence[Any] | Mapping[str, Any]],
    ) -> Coroutine[Any, Any, list[Job[R]]]:
        """Queue a job for each set of arguments, with few round trips to the server.

        In a plain function, it works as `enqueue` does.

        Args:
            calls: For each job, a sequence of positional arguments, or a mapping of all arguments
                by name.

        Raises:
            InvalidArguments: An argument of one job does not fit. No job was enqueued.
            QueueUnavailable: The queue's server cannot be reached. Some jobs may be enqueued.
        """
        arguments = [_split(call) for call in calls]
        return run_or_return(self, partial(self.submit_many, Call(self.name), arguments))

    def enqueue_many_sync(
        self,
        calls: Iterable[Sequence[Any] | Mapping[str, Any]],
    ) -> list[Job[R]]:
        """Queue a job for each set of arguments from a plain function.

        Args:
            calls: As in `enqueue_many`.

        Raises:
            InvalidArguments: An argument of one job does not fit. No job was enqueued.
            QueueUnavailable: The queue's server cannot be reached. Some jobs may be enqueued.
            RuntimeError: An event loop runs in this thread, or the service is closing.
        """
        # Here, because a generator is code of the calling thread, and may block or enqueue.
        arguments = [_split(call) for call in calls]
        return run_sync(self, partial(self.submit_many, Call(self.name), arguments))

    def __or__(self, other: "Task[Concatenate[R, ...], R2]") -> Chain[P, R2]:
        """Return a chain: `(validate | process | notify).enqueue(file_id)`.

        Each task gets the result of the one before as its first argument.

        Args:
            other: The task to run after this one.
        """
        if not isinstance(other, Producer):
            return NotImplemented
        return Chain((self, other))

    def _bind(self) -> "BoundTask[P, R]":
        return BoundTask(self, Call(self.name))


AnyTask = Task[..., Any]


def _split(call: Sequence[Any] | Mapping[str, Any]) -> ArgsAndKwargs:
    if isinstance(call, Mapping):
        return (), call
    # The characters of a text would be the arguments.
    if isinstance(call, str | bytes):
        raise InvalidArguments("enqueue_many takes a list of arguments for each job, not a text")
    return tuple(call), {}

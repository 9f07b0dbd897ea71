"""A task: a function that can be called directly, or enqueued as a job."""

import asyncio
import inspect
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import Executor
from contextvars import copy_context
from datetime import datetime, timedelta
from functools import cached_property, partial, update_wrapper
from hashlib import sha256
from typing import (
    Any,
    Concatenate,
    Generic,
    ParamSpec,
    Protocol,
    TypeVar,
    cast,
    overload,
)
from uuid import uuid4

from pydantic_core import to_json

from core.context import TaskContext
from core.database import current_transaction
from core.tasks.arguments import Arguments
from core.tasks.chain import Chain
from core.tasks.job import Job
from core.tasks.message import Message
from core.tasks.options import Call, TaskOptions, check_priority
from core.tasks.queue import Queue

P = ParamSpec("P")
R = TypeVar("R")
R2 = TypeVar("R2")

CallArguments = tuple[tuple[Any, ...], Mapping[str, Any]]


class TaskOwner(Protocol):
    """The worker that a task belongs to."""

    @property
    def queue(self) -> Queue:
        """The open queue."""
        ...

    @property
    def threads(self) -> Executor | None:
        """Threads for plain functions; None while no service is open."""
        ...


class Bindable(ABC, Generic[P, R]):
    """The base of `Task` and `BoundTask`."""

    @abstractmethod
    def _binding(self) -> "BoundTask[P, R]": ...

    def using(
        self,
        *,
        run_at: datetime | None = None,
        delay: float | timedelta | None = None,
        priority: str | None = None,
        job_id: str | None = None,
    ) -> "BoundTask[P, R]":
        """Choose how the next job is enqueued. Further calls add to earlier ones.

        Args:
            run_at: When to run the job. A time without a zone is local.
            delay: How long to wait before the job runs, in seconds if it is a number.
            priority: `low`, `normal` or `high`, instead of the task's priority.
            job_id: An id that you choose. A job of this id runs once, for as long as its record
                is kept.

        Raises:
            InvalidArguments: Both `run_at` and `delay` are given, the priority is unknown, or the
                `job_id` has other characters than letters, digits and `_.:@-`.
        """
        bound = self._binding()
        call = bound.call.with_time(run_at, delay)
        call = call.with_priority(priority)
        call = call.with_job_id(job_id)
        return BoundTask(bound.task, call)


class Task(Bindable[P, R]):
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
        self.name = name
        self.function = function
        self.options = options
        self._owner = owner
        update_wrapper(self, function)

    def __repr__(self) -> str:
        return f"Task({self.name!r})"

    @cached_property
    def arguments(self) -> Arguments:
        """The function's parameters. They are built at first use, when annotations resolve."""
        return Arguments(self.name, self.function)

    @property
    def priority(self) -> str:
        """The default priority of the task's jobs."""
        return self.options.priority

    @property
    def queue(self) -> Queue:
        """The queue of the running service.

        Raises:
            RuntimeError: No service is running in this process.
        """
        return self._owner.queue

    async def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R:
        """Run the function directly. A plain function runs in a thread.

        A thread cannot be cancelled: after a timeout it keeps running.
        """
        if inspect.iscoroutinefunction(self.function):
            return cast(R, await self.function(*args, **kwargs))
        call = partial(copy_context().run, self.function, *args, **kwargs)
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._owner.threads, call)

    @overload
    async def enqueue(self, *args: P.args, **kwargs: P.kwargs) -> Job[R]: ...

    @overload
    async def enqueue(self, *args: Any, scheduled_at: datetime, **kwargs: Any) -> Job[R]: ...

    async def enqueue(self, *args: Any, **kwargs: Any) -> Job[R]:
        """Queue a job that calls the function with these arguments.

        Args:
            *args: The function's positional arguments, checked against its annotations.
            **kwargs: The function's keyword arguments, checked in the same way. `scheduled_at`
                is short for `using(run_at=...)`.

        Raises:
            InvalidArguments: An argument does not fit; the message names the parameter.
            QueueUnavailable: The queue's server cannot be reached, or did not answer.
        """
        if "scheduled_at" in kwargs:
            run_at = kwargs.pop("scheduled_at")
            return await self.using(run_at=run_at).enqueue(*args, **kwargs)
        (job,) = await self.submit(Call(self.name), [(args, kwargs)])
        return job

    async def enqueue_many(
        self, calls: Iterable[Sequence[Any] | Mapping[str, Any]]
    ) -> list[Job[R]]:
        """Queue a job for each set of arguments, with few round trips to the server.

        Args:
            calls: For each job, the positional arguments as a sequence, or all arguments by name
                as a mapping.

        Raises:
            InvalidArguments: An argument of one job does not fit. No job was enqueued.
            QueueUnavailable: The queue's server cannot be reached. Some jobs may be enqueued.
        """
        sets = [_split(call) for call in calls]
        return await self.submit(Call(self.name), sets)

    def __or__(self, other: "Task[Concatenate[R, ...], R2]") -> Chain[P, R2]:
        """Return a chain: `(validate | process | notify).enqueue(file_id)`.

        Each task gets the result of the one before as its first argument.

        Args:
            other: The task to run after this one.
        """
        return Chain((self, other))

    async def submit(self, call: Call, sets: Sequence[CallArguments]) -> list[Job[R]]:
        """Make messages and send them to the queue.

        Args:
            call: How the jobs are enqueued.
            sets: For each job, its positional and its keyword arguments.

        Raises:
            InvalidArguments: An argument does not fit.
            QueueUnavailable: The queue's server cannot be reached, or did not answer.
        """
        queue = self.queue
        chosen = [call.job_id or self._idempotent_id(args, kwargs) for args, kwargs in sets]
        arguments = [self.arguments.dump(args, kwargs) for args, kwargs in sets]
        # In a transaction a job joins no other: that one could run before the commit.
        if self.options.unique and current_transaction() is None:
            ids = await self._claim_unique(chosen, arguments, call.at)
            chosen_ids = ids
        else:
            ids = [job_id or uuid4().hex for job_id in chosen]
            chosen_ids = [job_id for job_id in chosen if job_id]
        # Jobs of the same id are one job.
        by_id = dict(zip(ids, arguments, strict=True))
        with TaskContext.use():
            messages = [
                self.message(job_id, dumped, at=call.at, schedule=call.schedule)
                for job_id, dumped in by_id.items()
            ]
        priority = call.priority or self.options.priority
        envelopes = [queue.seal(message, call.at, priority) for message in messages]
        await queue.send(envelopes, chosen_ids)
        return [Job(job_id, queue, self.arguments.load_result) for job_id in ids]

    async def _claim_unique(
        self,
        chosen: list[str | None],
        arguments: list[dict[str, Any]],
        at: float | None,
    ) -> list[str]:
        """Return the ids of the jobs that hold the keys of these arguments."""
        keys = [_hash(self.name, to_json(dumped)) for dumped in arguments]
        wanted: dict[str, str] = {}
        for key, job_id in zip(keys, chosen, strict=True):
            wanted.setdefault(key, job_id or uuid4().hex)
        holders = await self.queue.claim(wanted, at)
        return [holders[key] for key in keys]

    def message(
        self,
        job_id: str,
        arguments: dict[str, Any],
        *,
        at: float | None = None,
        **origin: Any,
    ) -> Message:
        """Make the message of one job. It carries the ids of the code that is running.

        Args:
            job_id: The job's id.
            arguments: The arguments, as `Arguments.dump` returned them.
            at: When the job is due, in seconds since 1970; at once if None.
            **origin: `schedule`, or `chain`, `stage` and `rest`.
        """
        now = time.time()
        sensitive = self.arguments.sensitive
        cipher = self.queue.cipher
        encrypted = {name: cipher.encrypt(arguments[name]) for name in sensitive}
        expires = self.options.expires
        return Message(
            id=job_id,
            task=self.name,
            arguments=arguments | encrypted,
            sensitive=sensitive,
            correlation_id=TaskContext.get_correlation_id() or job_id,
            owner=TaskContext.get_actor(),
            enqueued_at=now,
            expires_at=max(at or now, now) + expires if expires else None,
            **origin,
        )

    def _binding(self) -> "BoundTask[P, R]":
        return BoundTask(self, Call(self.name))

    def _idempotent_id(self, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> str | None:
        make_key = self.options.idempotency_key
        if make_key is None:
            return None
        return _hash(self.name, str(make_key(*args, **kwargs)).encode())


class BoundTask(Bindable[P, R]):
    """A task, and how its next job is enqueued. `Task.using` returns one.

    Attributes:
        task: The task.
        call: How the next job is enqueued.
    """

    def __init__(self, task: Task[P, R], call: Call) -> None:
        self.task = task
        self.call = call

    async def enqueue(self, *args: P.args, **kwargs: P.kwargs) -> Job[R]:
        """Queue a job, as `Task.enqueue` does.

        Args:
            *args: The function's positional arguments.
            **kwargs: The function's keyword arguments.

        Raises:
            InvalidArguments: An argument does not fit; the message names the parameter.
            QueueUnavailable: The queue's server cannot be reached, or did not answer.
        """
        (job,) = await self.task.submit(self.call, [(args, kwargs)])
        return job

    def _binding(self) -> "BoundTask[P, R]":
        return self


def _split(call: Sequence[Any] | Mapping[str, Any]) -> CallArguments:
    if isinstance(call, Mapping):
        return (), call
    return tuple(call), {}


def _hash(task: str, value: bytes) -> str:
    # A key or an id must be short, and a value may be of any length.
    return f"{task}:{sha256(value).hexdigest()[:32]}"

"""A task: a function that can be called here and now, or enqueued as a job."""

import asyncio
import inspect
import re
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import Executor
from contextvars import copy_context
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from functools import cached_property, partial, update_wrapper
from hashlib import sha256
from typing import Any, Concatenate, Generic, ParamSpec, Protocol, TypeVar, cast, overload
from uuid import uuid4

from pydantic_core import to_json

from core.context import TaskContext
from core.database import current_transaction
from core.tasks.arguments import Arguments
from core.tasks.chain import Chain
from core.tasks.engine import PRIORITIES
from core.tasks.errors import InvalidArguments
from core.tasks.job import Job
from core.tasks.message import Message
from core.tasks.queue import Queue

P = ParamSpec("P")
R = TypeVar("R")
R2 = TypeVar("R2")

_JOB_ID = re.compile(r"[\w.:@-]{1,200}", re.ASCII)


class QueueHolder(Protocol):
    """What a task needs of its worker: the queue that is open now, and threads for plain functions."""

    @property
    def queue(self) -> Queue: ...

    @property
    def threads(self) -> Executor | None: ...


@dataclass(frozen=True, slots=True)
class TaskOptions:
    """How a task's jobs are run. What is None comes from the settings (`TASK_...`).

    Attributes:
        max_retries: How often a failed job is tried again.
        retry_delay: Seconds before the first retry, at most; doubled at each further one.
        retry_max_delay: Seconds that this doubling does not exceed.
        timeout: Seconds that one attempt may take.
        priority: `low`, `normal` or `high`.
        expires: Seconds after which a job that has not started (counted from when it was due) fails instead.
        unique: Jobs with the same arguments are one job, until it has ended: to enqueue another one returns it.
            Not inside a MongoDB transaction, where each is a job of its own.
        idempotency_key: Makes a key of the arguments; jobs with the same key are one job, while it runs and after,
            for as long as its record lives.
    """

    max_retries: int | None = None
    retry_delay: float = 10
    retry_max_delay: float = 3600
    timeout: float | None = None
    priority: str = "normal"
    expires: float | None = None
    unique: bool = False
    idempotency_key: Callable[..., object] | None = None


@dataclass(frozen=True, slots=True)
class Call:
    """How one job is enqueued."""

    at: float | None = None
    priority: str | None = None
    job_id: str | None = None
    schedule: str | None = None


class Task(Generic[P, R]):
    """A registered function. Calling it runs it directly; `enqueue` makes a job of it."""

    def __init__(self, name: str, function: Callable[P, Any], options: TaskOptions, holder: QueueHolder) -> None:
        _check_priority(name, options.priority)
        self.name = name
        self.function = function
        self.options = options
        self._holder = holder
        update_wrapper(self, function)

    def __repr__(self) -> str:
        return f"Task({self.name!r})"

    @cached_property
    def arguments(self) -> Arguments:
        """The function's parameters; built at first use, when every annotation can be resolved."""
        return Arguments(self.name, self.function)

    @property
    def priority(self) -> str:
        """The priority of its jobs where none is said."""
        return self.options.priority

    @property
    def queue(self) -> Queue:
        """The queue that its jobs go to; open inside a running service only."""
        return self._holder.queue

    async def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R:
        """Run the function here and now.

        A plain function runs in a thread. A thread cannot be cancelled: after a timeout it goes on unseen.
        """
        if inspect.iscoroutinefunction(self.function):
            return cast(R, await self.function(*args, **kwargs))
        call = partial(copy_context().run, self.function, *args, **kwargs)
        return await asyncio.get_running_loop().run_in_executor(self._holder.threads, call)

    @overload
    async def enqueue(self, *args: P.args, **kwargs: P.kwargs) -> Job[R]: ...

    @overload
    async def enqueue(self, *args: Any, scheduled_at: datetime, **kwargs: Any) -> Job[R]: ...

    async def enqueue(self, *args: Any, **kwargs: Any) -> Job[R]:
        """Queue a job that calls the function with these arguments.

        Args:
            *args: Checked against the function's annotations, as are the keyword arguments.
            **kwargs: Keyword arguments; `scheduled_at` is no argument, but short for `using(run_at=...)`.

        Raises:
            InvalidArguments: An argument does not fit; the message names the parameter.
            QueueUnavailable: The queue's server cannot be reached, or did not answer.
        """
        if "scheduled_at" in kwargs:
            return await self.using(run_at=kwargs.pop("scheduled_at")).enqueue(*args, **kwargs)
        (job,) = await self.publish(Call(), [(args, kwargs)])
        return job

    def using(
        self,
        *,
        run_at: datetime | None = None,
        delay: float | timedelta | None = None,
        priority: str | None = None,
        job_id: str | None = None,
    ) -> "BoundTask[P, R]":
        """Say how the next job is to be enqueued.

        Args:
            run_at: When to run it; a naive time is local, as Python takes it.
            delay: How long to wait before it runs, in seconds where it is a number.
            priority: `low`, `normal` or `high`, instead of the task's own.
            job_id: A name of your own: a job of this id runs once, for as long as its record lives.

        Raises:
            InvalidArguments: Both `run_at` and `delay`, an unknown priority, or a `job_id` with other characters
                than letters, digits and `_.:@-`.
        """
        return BoundTask(self, Call()).using(run_at=run_at, delay=delay, priority=priority, job_id=job_id)

    async def enqueue_many(self, calls: Iterable[Sequence[Any] | Mapping[str, Any]]) -> list[Job[R]]:
        """Queue a job for each set of arguments, with few round trips.

        Args:
            calls: For each job its positional arguments as a sequence, or all of them by name as a mapping.

        Raises:
            InvalidArguments: An argument of one of them does not fit; then none was enqueued.
            QueueUnavailable: The queue's server cannot be reached; some may have been enqueued.
        """
        each = [((), call) if isinstance(call, Mapping) else (tuple(call), {}) for call in calls]
        return await self.publish(Call(), each)

    def __or__(self, other: "Task[Concatenate[R, ...], R2]") -> Chain[P, R2]:
        """Return a chain: `(validate | process | notify).enqueue(file_id)` passes each result on.

        Args:
            other: The task of the next stage. Its first argument is the result of this one.
        """
        return Chain((self, other))

    async def publish(self, call: Call, each: Sequence[tuple[tuple[Any, ...], Mapping[str, Any]]]) -> list[Job[R]]:
        """What `enqueue` and `enqueue_many` do in the end.

        Args:
            call: How the jobs are enqueued.
            each: For each job its positional arguments and those by name.
        """
        queue = self.queue
        chosen: list[str | None] = [call.job_id or self._idempotent_id(args, kwargs) for args, kwargs in each]
        ids = [job_id or uuid4().hex for job_id in chosen]
        all_arguments = [self.arguments.dump(args, kwargs) for args, kwargs in each]
        # Inside a transaction it joins no other job: that one might have run before the transaction commits.
        if self.options.unique and current_transaction() is None:
            keys = [_key(self.name, to_json(arguments)) for arguments in all_arguments]
            # Of several with the same arguments the first one holds the key.
            holders = await queue.claim(dict(reversed([*zip(keys, ids, strict=True)])), call.at)
            ids = [holders[key] for key in keys]
            chosen = [*ids]
        priority = call.priority or self.options.priority
        with TaskContext.use():
            messages = {
                job_id: self.message(job_id, arguments, at=call.at, schedule=call.schedule)
                for job_id, arguments in zip(ids, all_arguments, strict=True)
            }
        deliveries = [queue.delivery(message, call.at, priority) for message in messages.values()]
        await queue.publish(deliveries, [job_id for job_id in chosen if job_id])
        return [Job(job_id, queue, self.arguments.load_result) for job_id in ids]

    def message(self, job_id: str, arguments: dict[str, Any], *, at: float | None = None, **origin: Any) -> Message:
        """The message of one job, which carries the ids of the code that runs.

        Args:
            job_id: Its id.
            arguments: What `Arguments.dump` made.
            at: When it is due, in seconds since 1970, or None for at once.
            **origin: `schedule`, or `chain`, `stage` and `rest`, where it comes from one.
        """
        now = time.time()
        sealed = {name: self.queue.cipher.seal(arguments[name]) for name in self.arguments.sensitive}
        return Message(
            id=job_id,
            task=self.name,
            arguments=arguments | sealed,
            sensitive=self.arguments.sensitive,
            correlation_id=TaskContext.get_correlation_id() or job_id,
            owner=TaskContext.get_actor(),
            enqueued_at=now,
            expires_at=max(at or now, now) + self.options.expires if self.options.expires else None,
            **origin,
        )

    def _idempotent_id(self, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> str | None:
        if self.options.idempotency_key is None:
            return None
        return _key(self.name, str(self.options.idempotency_key(*args, **kwargs)).encode())


class BoundTask(Generic[P, R]):
    """A task together with how its next job is enqueued; made by `Task.using`."""

    def __init__(self, task: Task[P, R], call: Call) -> None:
        self._task = task
        self._call = call

    async def enqueue(self, *args: P.args, **kwargs: P.kwargs) -> Job[R]:
        """As `Task.enqueue`.

        Raises:
            InvalidArguments: An argument does not fit; the message names the parameter.
            QueueUnavailable: The queue's server cannot be reached, or did not answer.
        """
        (job,) = await self._task.publish(self._call, [(args, kwargs)])
        return job

    def using(
        self,
        *,
        run_at: datetime | None = None,
        delay: float | timedelta | None = None,
        priority: str | None = None,
        job_id: str | None = None,
    ) -> "BoundTask[P, R]":
        """As `Task.using`; what is given here is added to what was given before.

        Args:
            run_at: When to run the job. A time without a zone is local.
            delay: How long to wait before the job runs, in seconds if it is a number.
            priority: `low`, `normal` or `high`, instead of the task's own.
            job_id: An id of your choice: a job of this id runs once, for as long as its record lives.

        Raises:
            InvalidArguments: Both `run_at` and `delay`, an unknown priority, or a `job_id` with other
                characters than letters, digits and `_.:@-`.
        """
        name = self._task.name
        if run_at is not None and delay is not None:
            raise InvalidArguments(f"task {name}: give run_at or delay, not both")
        if job_id is not None and not _JOB_ID.fullmatch(job_id):
            raise InvalidArguments(f"task {name}: job_id takes up to 200 letters, digits and _.:@-, not {job_id!r}")
        if priority is not None:
            _check_priority(name, priority)
        if run_at is not None and not isinstance(run_at, datetime):
            raise InvalidArguments(f"task {name}: run_at and scheduled_at take a datetime, not {run_at!r}")
        at = self._call.at
        if run_at is not None:
            at = run_at.timestamp()
        elif delay is not None:
            seconds = delay.total_seconds() if isinstance(delay, timedelta) else delay
            at = time.time() + seconds
        call = replace(self._call, at=at, priority=priority or self._call.priority, job_id=job_id or self._call.job_id)
        return BoundTask(self._task, call)


def _key(task: str, value: bytes) -> str:
    # Hashed, since it may hold any characters and be of any length.
    return f"{task}:{sha256(value).hexdigest()[:32]}"


def _check_priority(task: str, priority: str) -> None:
    if priority not in PRIORITIES:
        raise InvalidArguments(f"task {task}: priority is one of {', '.join(PRIORITIES)}, not {priority!r}")

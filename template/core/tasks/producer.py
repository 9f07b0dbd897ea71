"""The making of jobs: arguments become signed messages, which go to the queue."""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cached_property
from hashlib import sha256
from typing import Any, Generic, Protocol, TypeVar
from uuid import uuid4

from anyio import CapacityLimiter
from pydantic_core import to_json

from core.context import TaskContext
from core.database import current_transaction
from core.tasks.arguments import Arguments
from core.tasks.errors import InvalidArguments
from core.tasks.job import Job
from core.tasks.message import Message, PlainArguments
from core.tasks.options import Call, TaskOptions
from core.tasks.outcome import Envelope
from core.tasks.portal import Portal
from core.tasks.queue import Queue
from core.traces import current_traceparent

R = TypeVar("R")

ArgsAndKwargs = tuple[tuple[Any, ...], Mapping[str, Any]]
"""The positional and the keyword arguments of one job."""


class TaskOwner(Protocol):
    """The worker that a task belongs to."""

    @property
    def queue(self) -> Queue:
        """The open queue."""
        ...

    @property
    def portal(self) -> Portal:
        """The way from plain functions to the event loop of the service."""
        ...

    @property
    def thread_limiter(self) -> CapacityLimiter | None:
        """Limits the threads of direct calls; None while no service is open."""
        ...


class Producer(Generic[R]):
    """Makes the jobs of one task. The base of `Task`.

    Attributes:
        name: The name that jobs carry in the queue.
        function: The function.
        options: How the task's jobs run.
    """

    def __init__(
        self,
        name: str,
        function: Callable[..., Any],
        options: TaskOptions,
        owner: TaskOwner,
    ) -> None:
        self.name = name
        self.function = function
        self.options = options
        self._owner = owner

    @cached_property
    def arguments(self) -> Arguments:
        """The function's parameters, read at first use, when the annotations can be resolved."""
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

    @property
    def portal(self) -> Portal:
        """The way from plain functions to the event loop of the service.

        Raises:
            RuntimeError: No service is running in this process.
        """
        return self._owner.portal

    async def submit(self, call: Call, /, *args: Any, **kwargs: Any) -> Job[R]:
        """Make a message and send it to the queue; see `submit_many`.

        Args:
            call: How the job is enqueued.
            *args: The function's positional arguments.
            **kwargs: The function's keyword arguments.
        """
        (job,) = await self.submit_many(call, [(args, kwargs)])
        return job

    async def submit_many(
        self,
        call: Call,
        arguments: Sequence[ArgsAndKwargs],
    ) -> list[Job[R]]:
        """Make messages and send them to the queue.

        Args:
            call: How the jobs are enqueued.
            arguments: For each job, its positional and its keyword arguments.

        Raises:
            InvalidArguments: An argument does not fit.
            QueueUnavailable: The queue's server cannot be reached, or did not answer.
        """
        envelopes, ids = await self.prepare(call, arguments)
        queue = self.queue
        await queue.send(envelopes)
        return [Job(job_id, queue, self.arguments.load_result) for job_id in ids]

    async def prepare(
        self,
        call: Call,
        arguments: Sequence[ArgsAndKwargs],
    ) -> tuple[Iterator[Envelope], list[str]]:
        """Make messages, and return them with the id of each job; see `submit_many`.

        All arguments are checked first. Each message is made when it is sent, to save memory.

        Args:
            call: How the jobs are enqueued.
            arguments: For each job, its positional and its keyword arguments.
        """
        plain = self._dump_all(arguments)
        ids = [call.job_id or self._idempotent_id(*each) or uuid4().hex for each in arguments]
        # In a transaction each job is separate: the job that holds a key may run before the commit.
        if self.options.unique and current_transaction() is None:
            ids = await self._claim_unique(ids, plain, call.at)
        return self._seal(call, ids, plain), ids

    def _dump_all(self, arguments: Sequence[ArgsAndKwargs]) -> list[PlainArguments]:
        plain = []
        for number, (args, kwargs) in enumerate(arguments):
            try:
                plain.append(self.arguments.dump(args, kwargs, self.queue.max_arguments))
            except InvalidArguments as error:
                if len(arguments) == 1:
                    raise
                raise InvalidArguments(f"{error} (in the set of arguments {number})") from None
        return plain

    def _seal(
        self,
        call: Call,
        ids: list[str],
        arguments: list[PlainArguments],
    ) -> Iterator[Envelope]:
        priority = call.priority or self.options.priority
        # Two jobs with the same id are one job.
        for job_id, values in dict(zip(ids, arguments, strict=True)).items():
            message = self.message(job_id, values, at=call.at, schedule=call.schedule)
            yield self.queue.seal(message, call.at, priority)

    def message(
        self,
        job_id: str,
        arguments: PlainArguments,
        *,
        at: float | None = None,
        **origin: Any,
    ) -> Message:
        """Make the message of one job. It carries the correlation id, actor and span of this code.

        Args:
            job_id: The job's id.
            arguments: The arguments, as `Arguments.dump` returned them.
            at: When the job is due, in seconds since 1970; at once if None.
            **origin: `schedule`, or `chain`, `stage` and `rest`.
        """
        now = round(time.time(), 3)
        expires_at = None
        if self.options.expires:
            due_at = max(at or now, now)
            expires_at = due_at + self.options.expires
        cipher = self.queue.cipher
        encrypted = arguments.copy()
        for name in self.arguments.sensitive:
            encrypted[name] = cipher.encrypt(arguments[name])
        return Message(
            id=job_id,
            task=self.name,
            arguments=encrypted,
            sensitive=self.arguments.sensitive,
            correlation_id=TaskContext.get_correlation_id() or job_id,
            owner=TaskContext.get_actor(),
            enqueued_at=now,
            due_at=at,
            expires_at=expires_at,
            traceparent=current_traceparent(),
            **origin,
        )

    async def _claim_unique(
        self,
        ids: list[str],
        arguments: list[PlainArguments],
        at: float | None,
    ) -> list[str]:
        """Return the ids of the jobs that hold the keys of these arguments."""
        keys = [_hash(self.name, to_json(values)) for values in arguments]
        wanted: dict[str, str] = {}
        for key, job_id in zip(keys, ids, strict=True):
            wanted.setdefault(key, job_id)
        holders = await self.queue.claim(wanted, at)
        return [holders[key] for key in keys]

    def _idempotent_id(
        self,
        args: tuple[Any, ...],
        kwargs: Mapping[str, Any],
    ) -> str | None:
        make_key = self.options.idempotency_key
        if make_key is None:
            return None
        key = str(make_key(*args, **kwargs))
        return _hash(self.name, key.encode())


def _hash(task: str, value: bytes) -> str:
    # A key or an id must be short, but a value may have any length.
    return f"{task}:{sha256(value).hexdigest()[:32]}"

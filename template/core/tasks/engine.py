"""What a queue must be able to do to carry this service's jobs. Nothing above this protocol names a queue."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import ClassVar, Protocol

from core.tasks.outcome import Outcome
from core.tasks.records import Fields, Records

Handler = Callable[[str, bytes], Awaitable[Outcome]]
"""Runs one message: `handler(job_id, body)`. It never raises."""


@dataclass(frozen=True, slots=True)
class Delivery:
    """A message on its way into the queue, together with its job's record.

    Attributes:
        id: The job's id. While a job with this id is in the queue, a second one is not added.
        body: The signed message.
        record: A record that exists already is kept as it is.
        at: When it is due, in seconds since 1970; at once where None.
        priority: One of `PRIORITIES`.
        following: The records of jobs that will follow this one, by their ids; kept for `FOLLOWING_SECONDS`.
    """

    id: str
    body: bytes
    record: Fields
    at: float | None = None
    priority: str = "normal"
    following: Mapping[str, Fields] = field(default_factory=dict)


PRIORITIES = ("low", "normal", "high")
FOLLOWING_SECONDS = 7 * 86400


@dataclass(frozen=True, slots=True)
class Stats:
    """How full a queue is.

    Attributes:
        waiting: Jobs whose time has come, and that no worker has taken yet.
        running: Jobs that a worker has taken.
        delayed: Jobs that wait for their time.
        oldest: Seconds for which the oldest of the waiting ones has waited; 0 where there is none.
    """

    waiting: int
    running: int
    delayed: int
    oldest: float = 0.0


class Engine(Protocol):
    """An existing queue, adapted.

    Attributes:
        durable: Whether jobs outlive this process.
        in_process: Whether jobs run in the process that enqueued them, without a worker of its own.
        records: Where the jobs' records are.
    """

    durable: ClassVar[bool]
    in_process: ClassVar[bool]
    records: Records

    async def start(self) -> None:
        """Make `publish` and `records` usable; a server that is down is awaited in the background."""
        ...

    async def stop(self) -> None:
        """Close what `start` opened."""
        ...

    async def publish(self, deliveries: Sequence[Delivery]) -> None:
        """Put messages into the queue, each together with its job's records, all or nothing.

        Raises:
            QueueUnavailable: The server cannot be reached.
        """
        ...

    async def consume(self, handler: Handler, stop: asyncio.Event) -> None:
        """Receive and run messages until `stop` is set, and then until the running ones have ended.

        It outlives restarts of the server.
        """
        ...

    async def stats(self) -> Stats:
        """How full the queue is.

        Raises:
            QueueUnavailable: The server cannot be reached.
        """
        ...

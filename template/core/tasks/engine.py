"""The interface that every engine implements."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import ClassVar, Protocol

from core.tasks.outcome import Outcome
from core.tasks.records import RecordFields, Records

Handler = Callable[[str, bytes], Awaitable[Outcome]]
"""Runs one message: `handler(job_id, body)`. It never raises."""

PRIORITIES = ("low", "normal", "high")
FOLLOWING_SECONDS = 7 * 86400
"""How long the records of a chain's later stages are kept while they are pending."""


@dataclass(frozen=True, slots=True)
class Envelope:
    """A signed message on its way into the queue, together with its job's record.

    Attributes:
        id: The job's id. The engine adds no second message while a job of this id is in the queue.
        body: The signed message.
        record: The job's first record. The engine keeps a record that exists already.
        at: When the job is due, in seconds since 1970; at once if None.
        priority: One of `PRIORITIES`.
        following: The records of the chain's later stages, by job id. A durable engine lets them
            expire after `FOLLOWING_SECONDS`, unless the stage gets a message.
        even_if_full: Whether a full server takes the message too. The next stage of a chain needs
            no more memory than the stage that ends.
    """

    id: str
    body: bytes
    record: RecordFields
    at: float | None = None
    priority: str = "normal"
    following: Mapping[str, RecordFields] = field(default_factory=dict)
    even_if_full: bool = False


@dataclass(frozen=True, slots=True)
class Stats:
    """How full a queue is.

    Attributes:
        pending: Jobs that are due and that no worker has taken.
        running: Jobs that a worker has taken.
        scheduled: Jobs that are not due yet.
        oldest: Seconds for which the oldest pending job has been due; 0 if no job is pending.
    """

    pending: int
    running: int
    scheduled: int
    oldest: float = 0.0


@dataclass(frozen=True, slots=True)
class Condition:
    """The state of the queue's server, as far as the server reports it.

    Attributes:
        memory: The share of its memory that is used; None if it has no limit, or does not say.
        persists: Whether it keeps its data when it restarts; None if it does not say.
    """

    memory: float | None = None
    persists: bool | None = None


class Engine(Protocol):
    """A queue system that carries this service's jobs.

    Attributes:
        durable: Whether jobs survive the end of this process.
        in_process: Whether jobs run in the process that enqueued them, without a worker.
        records: The jobs' records.
    """

    durable: ClassVar[bool]
    in_process: ClassVar[bool]
    records: Records

    @property
    def takes_jobs(self) -> bool:
        """Whether `consume` receives messages now. During an outage it receives none."""
        ...

    async def start(self) -> None:
        """Open the connection. If the server is down, keep trying in the background."""
        ...

    async def stop(self) -> None:
        """Close the connection."""
        ...

    async def publish(self, envelopes: Sequence[Envelope]) -> None:
        """Put messages into the queue. Each message and its record are written in one step.

        Args:
            envelopes: The messages with their records.

        Raises:
            QueueRefuses: The server takes no jobs now, for example because it is full.
            QueueUnavailable: The server cannot be reached.
        """
        ...

    async def check(self) -> Condition:
        """Check that the server takes jobs, by writing to it, and return its condition.

        Raises:
            QueueRefuses: The server takes no jobs now.
            QueueUnavailable: The server cannot be reached.
        """
        ...

    async def consume(self, handler: Handler, stop: asyncio.Event) -> None:
        """Receive and run messages until `stop` is set, then wait for the running ones.

        A restart of the server does not end the consumption.

        Args:
            handler: Runs one message.
            stop: Ends the consumption when it is set.
        """
        ...

    async def stats(self) -> Stats:
        """Return how full the queue is.

        Raises:
            QueueUnavailable: The server cannot be reached.
        """
        ...

"""The interface that every engine implements."""

import asyncio
import threading
from collections.abc import Iterable
from dataclasses import dataclass
from typing import ClassVar, Protocol

from core.tasks.outcome import Envelope, Outcome
from core.tasks.records import JobRecord, Records

PRIORITIES = ("low", "normal", "high")
SUSPECT_DELIVERIES = 3
"""After this many consecutive deliveries without an outcome, a job is a suspect."""


@dataclass(slots=True)
class Delivery:
    """A message that a worker was given.

    Attributes:
        id: The job's id.
        body: The signed message.
        record: The job's record.
        is_begun: Whether the engine has begun the delivery: the job is running,
            `record.deliveries` counts this delivery, and `record.fence` is new, so no earlier run
            can change the record. The engine begins no delivery if the job has ended, still runs in
            this worker, or is a suspect.
        is_suspect: Whether the job may end its worker or block it: it had `SUSPECT_DELIVERIES`
            deliveries without an outcome, or it blocked an event loop.
    """

    id: str
    body: bytes
    record: JobRecord
    is_begun: bool = True
    is_suspect: bool = False


class Handler(Protocol):
    """Runs messages."""

    def may_begin(self) -> bool:
        """Return whether a further message may begin now. None may while a suspect runs alone."""
        ...

    async def execute(self, delivery: Delivery) -> Outcome:
        """Run one message. It raises no exception: if it is cancelled, the job is put back.

        Args:
            delivery: The message.
        """
        ...


@dataclass(frozen=True, slots=True)
class Stats:
    """How full a queue is.

    Attributes:
        pending: Jobs that are due and that no worker has taken.
        running: Jobs that a worker has taken.
        scheduled: Jobs that are not due yet, or wait for a slot of a limit.
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
        stashed: Set when a run left a dead letter.
        paused: Set it to take no further message while the running ones go on. An engine that runs
            jobs in the process that enqueued them ignores it.
    """

    durable: ClassVar[bool]
    in_process: ClassVar[bool]
    records: Records
    stashed: asyncio.Event
    paused: threading.Event

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

    async def publish(self, envelopes: Iterable[Envelope]) -> None:
        """Put messages into the queue. Each message and its record are written in one step.

        A job that is in the queue or has ended is unchanged.

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
            handler: Runs the messages.
            stop: Ends the consumption when it is set.
        """
        ...

    async def stats(self) -> Stats:
        """Return how full the queue is.

        Raises:
            QueueUnavailable: The server cannot be reached.
        """
        ...

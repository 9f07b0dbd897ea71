"""The interface that every engine implements."""

import asyncio
import threading
from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum, auto
from typing import ClassVar, Protocol

from core.errors import UserError
from core.tasks.outcome import Envelope, Outcome
from core.tasks.records import JobRecord, JobStatus, Records

PRIORITIES = ("low", "normal", "high")
RANKS = {"high": 1, "normal": 2, "low": 3}
"""The number of each priority in a queue."""
SUSPECT_DELIVERIES = 3
"""After this many consecutive deliveries without an outcome, a job is a suspect."""


class Promise(StrEnum):
    """A promise that an engine may make. The tests in `core/tests/contract` check each promise."""

    DURABLE = auto()
    """Jobs survive the end of every process of the service, also by SIGKILL."""
    ORDERLY_STOP = auto()
    """A worker that stops ends its jobs or puts them back. No job waits for a lease to run out."""
    PRIORITIES = auto()
    """Pending jobs with a higher priority start first."""
    EXACT_DELAYS = auto()
    """A scheduled job starts within about a second of its time, if a worker has a free slot."""
    SERVER_RESTART = auto()
    """Jobs survive an outage and a restart of the queue's server, if the server keeps its data."""
    SERVER_DATA_LOSS = auto()
    """Jobs survive a restart of the queue's server that loses all of its data."""
    SERVER_OUTAGE = auto()
    """Jobs are accepted while the queue's server is down, and start after the outage."""
    BOUNDED = auto()
    """A full server refuses new jobs. It loses no job, and workers empty it."""
    MONGODB_OUTAGE = auto()
    """Jobs are accepted and run while MongoDB is down."""


_WITHOUT = {
    Promise.DURABLE: "jobs are lost when this process ends",
    Promise.BOUNDED: "their number has no limit",
}


def describe_losses(promises: frozenset[Promise]) -> str:
    """Return in words how jobs may be lost on an engine without some promises.

    Args:
        promises: The promises of the engine.
    """
    return "; ".join(text for promise, text in _WITHOUT.items() if promise not in promises)


class BadPosition(UserError):
    """The position of a page cannot be read. Begin with the first page."""

    def __init__(self) -> None:
        super().__init__("the position of the page cannot be read; begin with the first page")


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

    @property
    def task_names(self) -> list[str]:
        """The names of the tasks that it knows."""
        ...

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
class Listed:
    """A job as an engine lists it. It may be forged.

    Attributes:
        id: The job's id.
        record: The job's record. It is `unknown` if it is missing or cannot be read.
        at: The time at which the job is or was due, in seconds since 1970.
    """

    id: str
    record: JobRecord
    at: float


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
        server: Its name and version; None if it does not say.
        clock_ahead: Seconds by which its clock is ahead of this machine's; None if it does not say.
    """

    memory: float | None = None
    persists: bool | None = None
    server: str | None = None
    clock_ahead: float | None = None


class Engine(Protocol):
    """A queue system that carries this service's jobs.

    Attributes:
        name: The name of this process as a worker, unique among all workers.
        in_process: Whether jobs run in the process that enqueued them, without a worker.
        records: The jobs' records.
        stashed: Set when a run left a dead letter.
        paused: Set it to take no further message while the running ones go on. An engine that runs
            jobs in the process that enqueued them ignores it.
    """

    in_process: ClassVar[bool]
    name: str
    records: Records
    stashed: asyncio.Event
    paused: threading.Event

    @property
    def promises(self) -> frozenset[Promise]:
        """The promises of this engine."""
        ...

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

    async def browse(
        self,
        status: JobStatus,
        after: str | None,
        limit: int,
    ) -> tuple[list[Listed], str | None]:
        """Return a page of unfinished jobs, and the position of the next page.

        A page takes as long with a million jobs as with a few. A job that moves between two pages
        may be on both or on neither. Ended jobs are left out, so a page may be short or empty
        although another page follows.

        Args:
            status: `pending` or `running`, in the order in which workers take jobs, or `scheduled`,
                the job that is due next first.
            after: The position that the previous page returned, or None. Its job may be gone.
            limit: The largest number of jobs on the page.

        Raises:
            BadPosition: The position is not one that this engine returned.
            QueueUnavailable: The server cannot be reached.
        """
        ...

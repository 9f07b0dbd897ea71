"""The interface of a broker: Celery, streaq and arq each have a class that implements it."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from core.tasks.engine import Condition, Promise

RunJob = Callable[[str], Awaitable[bool]]
"""A function that runs the job of a ticket, and returns when the job's end is recorded.

It raises no exception, except that a cancellation puts the job back and is raised again. It returns
False if this process takes no jobs now. The broker then delivers the ticket again, to this process
or another one, after a second or more."""


STORE_PROMISES = frozenset(
    {
        Promise.DURABLE,
        Promise.ORDERLY_STOP,
        Promise.EXACT_DELAYS,
        Promise.SERVER_RESTART,
        Promise.SERVER_DATA_LOSS,
        Promise.SERVER_OUTAGE,
    }
)
"""The promises that hold with every broker."""


@dataclass(frozen=True, slots=True)
class Ticket:
    """A message that names a job that is due. The job itself is in the store.

    A ticket may be delivered twice, late, or for a job that has ended, because the store decides
    whether the job may run. If a ticket is lost, a new one is sent.

    Attributes:
        job_id: The job's id.
        task: The name of the task.
        priority: One of `PRIORITIES`.
        number: A random number. A broker that refuses a message with a known id adds it to the
            job's id.
    """

    job_id: str
    task: str
    priority: str
    number: int


class Broker(Protocol):
    """A queue system that carries tickets. It connects at the first call.

    Its methods raise `QueueUnavailable` if its server cannot be reached, and `QueueRefuses` if the
    server takes no tickets now.
    """

    async def close(self) -> None:
        """Close the connection."""
        ...

    async def send(self, tickets: Sequence[Ticket]) -> None:
        """Put tickets into the queue, in this order. Return when the server has all of them.

        Args:
            tickets: The tickets. There may be thousands.
        """
        ...

    async def count(self) -> int:
        """Return the number of tickets that no worker has taken yet."""
        ...

    async def check(self) -> Condition:
        """Check that the server takes tickets, and return its condition."""
        ...

    async def consume(self, tasks: Sequence[str], run: RunJob, stop: asyncio.Event) -> None:
        """Take tickets and run their jobs until `stop` is set; then take no more.

        It returns after the last call of `run` has begun, so jobs may still be running. It
        continues after a restart of the server.

        Args:
            tasks: The names of the tasks that this process knows.
            run: Runs the job of a ticket.
            stop: Ends the consumption when it is set.
        """
        ...

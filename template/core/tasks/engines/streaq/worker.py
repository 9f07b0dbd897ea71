"""The streaq worker of this service: one streaq task carries every job."""

import asyncio
import json
from datetime import timedelta
from typing import Any

import streaq
from anyio import CancelScope, current_time

from core.tasks.engine import PRIORITIES, Handler
from core.tasks.outcome import Retry

IDLE_TIMEOUT_SECONDS = 20
"""After this, jobs of a worker that was killed go to another one; its default of 60 s lets them wait for minutes."""
JOB = "job"
"""The name of the streaq task."""


class StoppableWorker(streaq.Worker[None]):
    """A streaq worker that stops when an event is set, instead of taking over the process's signals.

    Attributes:
        stop: Set it to make the worker take no further job.
        lost: Is set when the connection to the server was lost. Its running jobs go on.
    """

    stop: asyncio.Event
    lost: asyncio.Event

    async def signal_handler(self, scope: CancelScope) -> None:
        try:
            await self.stop.wait()
        except asyncio.CancelledError:
            self.lost.set()  # one of the tasks beside this one failed, and took all of them with it
            raise
        scope.cancel("the worker was told to stop")
        self.limit_running_jobs()

    def limit_running_jobs(self) -> None:
        """Cancel the jobs that have not ended after the grace period; they go back into the queue."""
        deadline = current_time() + self.grace_period
        for running in self._cancel_scopes.values():
            running.deadline = min(running.deadline, deadline)


def build_worker(
    url: str, queue_name: str, concurrency: int, grace_period: float, handler: Handler | None
) -> StoppableWorker:
    """A worker that hands each message to the handler; without one, a client that only publishes.

    Args:
        url: Of the Redis or Valkey server.
        queue_name: Keeps services apart that share a server.
        concurrency: Jobs that it runs at once.
        grace_period: Seconds that running jobs get at the end.
        handler: Runs one message.
    """
    worker = StoppableWorker(
        redis_url=url,
        queue_name=queue_name,
        concurrency=concurrency,
        priorities=list(PRIORITIES),  # streaq reverses this list in place
        grace_period=round(grace_period),
        idle_timeout=IDLE_TIMEOUT_SECONDS,
        serializer=_serialize,
        deserializer=json.loads,
    )
    worker.stop, worker.lost = asyncio.Event(), asyncio.Event()

    # Retries are counted above the engine, where crashes and shutdowns use up none, and results are kept in the
    # record: to streaq every job succeeds or is to be run again.
    @worker.task(name=JOB, max_tries=None, timeout=None, ttl=0, silent=True)
    async def job(body: str) -> None:
        assert handler is not None
        outcome = await handler(definition.context.task_id, body.encode())
        if isinstance(outcome, Retry):
            raise streaq.StreaqRetry(delay=timedelta(seconds=outcome.after))

    definition = job
    return worker


def _serialize(data: Any) -> bytes:
    # What streaq fails by itself it stores as an exception object, and a serializer that raises kills its worker.
    return json.dumps(data, default=repr).encode()

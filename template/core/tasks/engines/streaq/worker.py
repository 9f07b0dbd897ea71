"""The streaq worker of this service: one streaq task carries every job."""

import asyncio
import json
from contextlib import suppress
from datetime import timedelta
from typing import Any, cast

import coredis.exceptions
import streaq
from anyio import CancelScope, current_time
from coredis.response.types import StreamPendingExt
from streaq.constants import REDIS_GROUP
from streaq.types import StreamMessage

from core.tasks.engine import PRIORITIES, Handler
from core.tasks.outcome import Retry

DOWN = (coredis.exceptions.ConnectionError, TimeoutError, OSError)
"""What is raised while the server cannot be reached."""
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
        with CancelScope(shield=True), suppress(*DOWN):
            await self._give_back_waiting()

    async def finish_task(self, msg: StreamMessage, **how: Any) -> None:  # type: ignore[override]
        """As streaq's own, except for a job that was cut off: streaq lets it wait for the idle timeout."""
        if how["finish"] or how["schedule"]:
            await super().finish_task(msg, **how)
        else:
            await self._give_back(msg.priority, [msg.message_id])

    async def _give_back_waiting(self) -> None:
        """Put what was taken and has not begun back into the queue, for other workers."""
        for priority in PRIORITIES:
            stream = self.stream_key + priority
            taken = await self.redis.xpending(
                stream, REDIS_GROUP, start="-", end="+", count=self.prefetch, consumer=self.id
            )
            ids = [str(entry.identifier) for entry in cast("tuple[StreamPendingExt, ...]", taken)]
            running = self._running_tasks[priority]
            await self._give_back(priority, [message_id for message_id in ids if message_id not in running])

    async def _give_back(self, priority: str, message_ids: list[str]) -> None:
        """Add messages anew, which wakes up other workers, in place of the entries that this one has taken."""
        stream = self.stream_key + priority
        for message_id in message_ids:
            entries = await self.redis.xrange(stream, start=message_id, end=message_id)
            async with self.redis.pipeline(transaction=True) as pipe:
                for entry in entries:
                    pipe.xadd(stream, dict(entry.field_values))
                    pipe.srem(self._running_set, [entry.field_values["task_id"]])
                pipe.xack(stream, REDIS_GROUP, [message_id])
                pipe.xdel(stream, [message_id])

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

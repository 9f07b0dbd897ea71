"""The engine `streaq`: Redis or Valkey streams. Jobs survive crashes of workers; any number of machines.

How streaq 7.2 behaves at its edges, and what this adapter does about it, is written where it does so. It relies
on `Worker.signal_handler` and `Worker.publish_task`; `core/tests/test_streaq.py` fails when these change.
"""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, ClassVar

import coredis.exceptions
import streaq
from anyio import CancelScope, current_time
from streaq.task import AsyncRegisteredTask
from streaq.types import Streaq
from streaq.utils import now_ms

from core.config import Settings, SettingsError
from core.logging import get_logger
from core.tasks.engine import PRIORITIES, Delivery, Handler, Stats
from core.tasks.errors import QueueUnavailable
from core.tasks.outcome import Retry
from core.tasks.records import Fields
from core.tasks.redis_records import Client, RedisRecords

logger = get_logger(__name__)

IDLE_TIMEOUT_SECONDS = 20
"""After this, jobs of a worker that was killed go to another one; its default of 60 s lets them wait for minutes."""
RECONNECT_SECONDS = 0.5
START_SECONDS = 3.0
JOB = "job"
DOWN = (coredis.exceptions.ConnectionError, TimeoutError, OSError)


class _Worker(streaq.Worker[None]):
    """A streaq worker that stops when an event is set, instead of taking over the process's signals."""

    stop: asyncio.Event

    async def signal_handler(self, scope: CancelScope) -> None:
        await self.stop.wait()
        scope.cancel("the worker was told to stop")
        deadline = current_time() + self.grace_period
        for running in self._cancel_scopes.values():
            running.deadline = min(running.deadline, deadline)


class StreaqEngine:
    """See `core.tasks.engine.Engine`.

    Args:
        url: Of the Redis or Valkey server.
        queue_name: Keeps services apart that share a server.
        concurrency: Jobs that one worker runs at once.
        grace_period: Seconds that running jobs get at the end.
    """

    durable: ClassVar[bool] = True
    in_process: ClassVar[bool] = False

    def __init__(self, url: str, queue_name: str, concurrency: int, grace_period: float) -> None:
        self._url = url
        self._queue_name = queue_name
        self._concurrency = concurrency
        self._grace_period = grace_period
        self._client: _Worker | None = None
        self._connected = asyncio.Event()
        self._connection: asyncio.Task[None] | None = None
        self.records = RedisRecords(self._redis, f"streaq:{queue_name}:record:")

    async def start(self) -> None:
        self._connection = asyncio.create_task(self._hold_connection())
        try:
            await asyncio.wait_for(self._connected.wait(), START_SECONDS)
        except TimeoutError:
            logger.warning("queue is down, trying again")

    async def stop(self) -> None:
        if self._connection:
            self._connection.cancel()
            await asyncio.wait([self._connection])

    async def publish(self, delivery: Delivery, record: Fields) -> None:
        async with self._redis() as redis:
            try:
                await self._publish(redis, delivery, record)
            except coredis.exceptions.ResponseError as error:
                if "Function not found" not in str(error):
                    raise
                # A server that was restarted without persistence has lost streaq's functions.
                await Streaq(redis, code=_library(), replace=True)
                await self._publish(redis, delivery, record)

    async def _publish(self, redis: Client, delivery: Delivery, record: Fields) -> None:
        client = self._client
        assert client is not None
        definition = client.registry[JOB]
        assert isinstance(definition, AsyncRegisteredTask)
        task = definition.enqueue(delivery.body.decode())
        task.id = delivery.id
        # An unknown priority is accepted by streaq and then never read, so it is always one of ours.
        task.start(schedule=_datetime(delivery.at), priority=delivery.priority)
        now = now_ms()
        data = await task.serialize(now)
        async with redis.pipeline(transaction=True) as pipe:
            for name, value in record.items():
                pipe.hsetnx(self.records.key(delivery.id), name, json.dumps(value))
            client.publish_task(pipe, task, data, now, lib=Streaq(pipe))

    async def stats(self) -> Stats:
        async with self._redis() as redis:
            client = self._client
            assert client is not None
            async with redis.pipeline(transaction=False) as pipe:
                waiting = [pipe.xlen(client.stream_key + priority) for priority in PRIORITIES]
                delayed = [pipe.zcard(client.queue_key + priority) for priority in PRIORITIES]
            return Stats(sum([await count for count in waiting]), sum([await count for count in delayed]))

    async def consume(self, handler: Handler, stop: asyncio.Event) -> None:
        # A streaq worker ends when its server restarts, and runs only once, so a new one is built each time.
        while not stop.is_set():
            worker = self._build(handler)
            worker.stop = stop
            try:
                await worker.run_async()
            except Exception as error:
                logger.warning("queue connection lost, trying again", error=_root_cause(error))
                await asyncio.sleep(RECONNECT_SECONDS)

    def _build(self, handler: Handler | None = None) -> _Worker:
        worker = _Worker(
            redis_url=self._url,
            queue_name=self._queue_name,
            concurrency=self._concurrency,
            priorities=list(PRIORITIES),  # streaq reverses this list in place
            grace_period=round(self._grace_period),
            idle_timeout=IDLE_TIMEOUT_SECONDS,
            serializer=_serialize,
            deserializer=json.loads,
        )

        # Retries are counted above the engine, where crashes and shutdowns use up none, and results are kept
        # in the record: to streaq every job succeeds or is to be run again.
        @worker.task(name=JOB, max_tries=None, timeout=None, ttl=0, silent=True)
        async def job(body: str) -> None:
            assert handler is not None
            outcome = await handler(definition.context.task_id, body.encode())
            if isinstance(outcome, Retry):
                raise streaq.StreaqRetry(delay=timedelta(seconds=outcome.after))

        definition = job
        return worker

    async def _hold_connection(self) -> None:
        """Keep a client open. In a task of its own, since it must be left where it was entered."""
        while True:
            client = self._build()
            try:
                async with client:
                    self._client = client
                    self._connected.set()
                    await asyncio.Event().wait()
            except Exception as error:
                logger.debug("queue connection failed", error=_root_cause(error))
            finally:
                self._client = None
                self._connected.clear()
            await asyncio.sleep(RECONNECT_SECONDS)

    @asynccontextmanager
    async def _redis(self) -> AsyncIterator[Client]:
        """The open client; what the server's absence raises becomes `QueueUnavailable`."""
        if self._client is None:
            raise QueueUnavailable("the queue's server cannot be reached")
        try:
            yield self._client.redis
        except DOWN as error:
            raise QueueUnavailable(f"the queue's server cannot be reached: {error}") from error


def _serialize(data: Any) -> bytes:
    # What streaq fails by itself it stores as an exception object, and a serializer that raises kills its worker.
    return json.dumps(data, default=repr).encode()


def _library() -> str:
    """The functions that streaq keeps on the server."""
    return (Path(streaq.__file__).parent / "lua" / "streaq.lua").read_text()


def _datetime(at: float | None) -> datetime | None:
    return None if at is None else datetime.fromtimestamp(at, UTC)


def _root_cause(error: BaseException) -> str:
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return f"{type(error).__name__}: {error}"


def build(settings: Settings) -> StreaqEngine:
    """The engine that these settings describe.

    Raises:
        SettingsError: `REDIS_URL` is missing.
    """
    if settings.redis_url is None:
        raise SettingsError("settings: REDIS_URL is missing: the job queue needs it (or set TASK_ENGINE=local)")
    return StreaqEngine(
        str(settings.redis_url), settings.queue_name, settings.task_concurrency, settings.task_grace_period
    )

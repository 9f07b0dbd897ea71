"""The engine: a client that publishes, and workers that are rebuilt after each outage."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Sequence
from contextlib import asynccontextmanager, suppress
from typing import Any, ClassVar, cast

from pydantic_core import to_json
from streaq.utils import now_ms

from core.config import find_address
from core.logging import get_logger
from core.tasks.engine import (
    FOLLOWING_SECONDS,
    PRIORITIES,
    Envelope,
    Handler,
    Stats,
)
from core.tasks.engines.streaq.records import (
    Client,
    RedisRecords,
    flatten,
)
from core.tasks.engines.streaq.worker import (
    DOWN,
    OPERATION_SECONDS,
    StoppableWorker,
    build_worker,
)
from core.tasks.errors import QueueUnavailable

logger = get_logger(__name__)

RECONNECT_SECONDS = 0.5
START_SECONDS = 3.0
PUBLISH_BATCH = 500

# Adds each record and each message that does not exist yet. The record of a chain's later stage no
# longer expires when the stage gets its message. streaq's own function takes one message at a time,
# and does not write records.
_PUBLISH = """
for i = 1, #KEYS, 4 do
  local record, task, stream, delayed = KEYS[i], KEYS[i + 1], KEYS[i + 2], KEYS[i + 3]
  local job, body = cjson.decode(ARGV[i / 2 + 1.5]), ARGV[i / 2 + 2.5]
  if redis.call('exists', record) == 0 then
    redis.call('hset', record, unpack(job.record))
    if job.ttl then redis.call('expire', record, job.ttl) end
  elseif not job.ttl and redis.call('hget', record, 'state') == '"pending"' then
    redis.call('persist', record)
  end
  if not job.ttl and redis.call('set', task, body, 'NX') then
    if job.due then
      redis.call('zadd', delayed, job.due, job.id)
    else
      redis.call('xadd', stream, '*', 'task_id', job.id, 'enqueue_time', ARGV[1])
    end
  end
end
"""

# Counts the jobs of one priority. A message that a worker has read is running. A scheduled message
# that is due is pending, although no worker has moved it into the stream yet.
_STATS = """
local now, pending, running, after = tonumber(ARGV[1]), redis.call('xlen', KEYS[1]), 0, '-'
local groups = redis.pcall('xinfo', 'groups', KEYS[1])
if not groups.err and groups[1] then
  local group = {}
  for at = 1, #groups[1], 2 do group[groups[1][at]] = groups[1][at + 1] end
  running, after = group['pending'], '(' .. group['last-delivered-id']
end
local first = redis.call('xrange', KEYS[1], after, '+', 'COUNT', 1)[1]
local since = first and tonumber(string.match(first[1], '^%d+')) or now
local overdue = redis.call('zcount', KEYS[2], '-inf', now)
local due = redis.call('zrange', KEYS[2], 0, 0, 'WITHSCORES')[2]
local scheduled = redis.call('zcard', KEYS[2]) - overdue
local oldest = now - math.min(since, tonumber(due or now), now)
return {pending - running + overdue, running, scheduled, oldest}
"""


class StreaqEngine:
    """See `core.tasks.engine.Engine`.

    Args:
        url: The URL of the Redis or Valkey server.
        queue_name: The name that separates services on one server.
        concurrency: The number of jobs that one worker runs at once.
        grace_period: Seconds that running jobs get at the end.
    """

    durable: ClassVar[bool] = True
    in_process: ClassVar[bool] = False

    def __init__(
        self,
        url: str,
        queue_name: str,
        concurrency: int,
        grace_period: float,
    ) -> None:
        self._url = url
        self._place = f"the queue's server at {find_address(url)} (REDIS_URL)"
        self._queue_name = queue_name
        self._concurrency = concurrency
        self._grace_period = grace_period
        self._client: StoppableWorker | None = None
        self._worker: StoppableWorker | None = None
        self._connected = asyncio.Event()
        self._connection: asyncio.Task[None] | None = None
        self.records = RedisRecords(self._redis, f"streaq:{queue_name}:record:")

    @property
    def takes_jobs(self) -> bool:
        return self._worker is not None and self._worker.takes_jobs

    async def start(self) -> None:
        self._connection = asyncio.create_task(self._hold_connection())
        # An outage is logged already, and calls raise QueueUnavailable until it ends.
        with suppress(TimeoutError):
            async with asyncio.timeout(START_SECONDS):
                await self._connected.wait()

    async def stop(self) -> None:
        if self._connection:
            self._connection.cancel()
            await asyncio.wait([self._connection])

    async def publish(self, envelopes: Sequence[Envelope]) -> None:
        for start in range(0, len(envelopes), PUBLISH_BATCH):
            async with self._redis() as redis:
                await redis.eval(
                    _PUBLISH,
                    *self._flatten(envelopes[start : start + PUBLISH_BATCH]),
                )

    def _flatten(self, envelopes: Sequence[Envelope]) -> tuple[list[str], list[str | bytes | int]]:
        """Return the keys and arguments of `_PUBLISH`. Each one costs time, so they are few."""
        client = self._client
        assert client is not None
        keys: list[str] = []
        words: list[str | bytes | int] = [now_ms()]
        for envelope in envelopes:
            # streaq never reads an unknown priority. Each of these was checked.
            places = (
                client.stream_key + envelope.priority,
                client.queue_key + envelope.priority,
            )
            keys += [
                self.records.key(envelope.id),
                client.task_key + envelope.id,
                *places,
            ]
            job: dict[str, Any] = {
                "id": envelope.id,
                "record": flatten(envelope.record),
            }
            if envelope.at is not None:
                job["due"] = str(round(envelope.at * 1000))
            words += [to_json(job), envelope.body]
            for job_id, record in envelope.following.items():
                keys += [
                    self.records.key(job_id),
                    client.task_key + job_id,
                    *places,
                ]
                words += [
                    to_json(
                        {
                            "record": flatten(record),
                            "ttl": FOLLOWING_SECONDS,
                        }
                    ),
                    b"",
                ]
        return keys, words

    async def stats(self) -> Stats:
        async with self._redis() as redis:
            client = self._client
            assert client is not None
            async with redis.pipeline(transaction=False) as pipe:
                replies = [
                    pipe.eval(
                        _STATS,
                        keys=[
                            client.stream_key + priority,
                            client.queue_key + priority,
                        ],
                        args=[now_ms()],
                    )
                    for priority in PRIORITIES
                ]
            each = [cast("list[int]", await reply) for reply in replies]
            pending, running, scheduled, oldest = zip(*each, strict=True)
            return Stats(
                sum(pending),
                sum(running),
                sum(scheduled),
                max(oldest) / 1000,
            )

    async def consume(self, handler: Handler, stop: asyncio.Event) -> None:
        # A streaq worker ends when its server restarts, and cannot run again. So a new one is built
        # each time. The old one waits for its running jobs while the new one takes others.
        workers: dict[asyncio.Task[None], StoppableWorker] = {}
        while not stop.is_set():
            self._worker = worker = self._build(handler)
            worker.stop = stop
            running = asyncio.create_task(_run_worker(worker))
            workers[running] = worker
            await _first(running, worker.lost.wait())
            if not stop.is_set():
                await _first(asyncio.sleep(RECONNECT_SECONDS), stop.wait())
            workers = {task: worker for task, worker in workers.items() if not task.done()}
        for worker in workers.values():
            worker.limit_running_jobs()
        if workers:
            await asyncio.wait(workers)

    def _build(self, handler: Handler | None = None) -> StoppableWorker:
        return build_worker(
            self._url,
            self._queue_name,
            self._concurrency,
            self._grace_period,
            handler,
        )

    async def _hold_connection(self) -> None:
        """Keep a client open, in one asyncio task, because the task that opens it must close it."""
        logged = ""
        while True:
            client = self._build()
            try:
                async with client:
                    self._client = client
                    self._connected.set()
                    await asyncio.Event().wait()
            except Exception as error:
                if (cause := _root_cause(error)) != logged:
                    logger.warning("queue is down, trying again", error=cause)
                    logged = cause
            finally:
                self._client = None
                self._connected.clear()
            await asyncio.sleep(RECONNECT_SECONDS)

    @asynccontextmanager
    async def _redis(self) -> AsyncIterator[Client]:
        """Yield the open client. Connection errors become `QueueUnavailable`."""
        if self._client is None:
            raise QueueUnavailable(f"{self._place} cannot be reached")
        try:
            async with asyncio.timeout(OPERATION_SECONDS):  # a server that hangs counts as down
                yield self._client.redis
        except DOWN as error:
            raise QueueUnavailable(f"{self._place} cannot be reached: {error}") from error


async def _run_worker(worker: StoppableWorker) -> None:
    try:
        await worker.run_async()
    except Exception as error:
        logger.warning(
            "queue connection lost, trying again",
            error=_root_cause(error),
        )


async def _first(*awaitables: Awaitable[object]) -> None:
    """Wait for the first of these. Then cancel the coroutines, and let the tasks continue."""
    tasks = [asyncio.ensure_future(awaitable) for awaitable in awaitables]
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task, awaitable in zip(tasks, awaitables, strict=True):
            if task is not awaitable:
                task.cancel()


def _root_cause(error: BaseException) -> str:
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return f"{type(error).__name__}: {error}"

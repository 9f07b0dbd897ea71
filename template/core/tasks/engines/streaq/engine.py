"""The engine: it publishes messages, counts them, and runs a worker."""

import asyncio
from collections.abc import Iterator, Sequence
from contextlib import suppress
from typing import Any, ClassVar

from pydantic_core import to_json
from streaq.constants import REDIS_PREFIX, REDIS_QUEUE, REDIS_STREAM, REDIS_TASK

from core.logging import get_logger
from core.tasks.engine import (
    FOLLOWING_SECONDS,
    PRIORITIES,
    Condition,
    Envelope,
    Handler,
    Stats,
)
from core.tasks.engines.streaq.client import EVEN_IF_FULL, Client
from core.tasks.engines.streaq.records import RedisRecords, flatten
from core.tasks.engines.streaq.worker import StoppableWorker
from core.tasks.errors import QueueUnavailable

logger = get_logger(__name__)

PUBLISH_BATCH = 500
PUBLISH_BYTES = 4 * 1024**2
"""A batch ends with the message that reaches this size, so that each call is short."""

# Adds each record and each message that does not exist yet. The record of a chain's later stage no
# longer expires when the stage gets its message. streaq's own function takes one message at a time,
# and does not write records.
_PUBLISH = """
for i = 1, #KEYS, 4 do
  local record, task, stream, delayed = KEYS[i], KEYS[i + 1], KEYS[i + 2], KEYS[i + 3]
  local job, body = cjson.decode(ARGV[i / 2 + 0.5]), ARGV[i / 2 + 1.5]
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
      redis.call('xadd', stream, '*', 'task_id', job.id)
    end
  end
end
"""

_PUBLISH_EVEN_IF_FULL = f"{EVEN_IF_FULL}\n{_PUBLISH}"

# Writes as publishing does, so it fails when publishing would.
_CHECK = "redis.call('set', KEYS[1], '', 'px', 1000)"

# Counts the jobs of each priority. A message that a worker has read is running. A scheduled message
# that is due is pending, although no worker has moved it into the stream yet.
_STATS = """
local time = redis.call('time')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local counts = {}
for at = 1, #KEYS, 2 do
  local stream, delayed = KEYS[at], KEYS[at + 1]
  local pending, running, after = redis.call('xlen', stream), 0, '-'
  local groups = redis.pcall('xinfo', 'groups', stream)
  if not groups.err and groups[1] then
    local group = {}
    for at = 1, #groups[1], 2 do group[groups[1][at]] = groups[1][at + 1] end
    running, after = group['pending'], '(' .. group['last-delivered-id']
  end
  local first = redis.call('xrange', stream, after, '+', 'COUNT', 1)[1]
  local since = first and tonumber(string.match(first[1], '^%d+')) or now
  local overdue = redis.call('zcount', delayed, '-inf', now)
  local due = redis.call('zrange', delayed, 0, 0, 'WITHSCORES')[2]
  local scheduled = redis.call('zcard', delayed) - overdue
  local oldest = now - math.min(since, tonumber(due or now), now)
  table.insert(counts, {pending - running + overdue, running, scheduled, oldest})
end
return counts
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
        self._queue_name = queue_name
        self._concurrency = concurrency
        self._grace_period = grace_period
        self._client = Client(url)
        self._worker: StoppableWorker | None = None
        prefix = REDIS_PREFIX + queue_name
        self._stream = prefix + REDIS_STREAM
        self._delayed = prefix + REDIS_QUEUE
        self._task = prefix + REDIS_TASK
        self.records = RedisRecords(self._client, f"{prefix}:record:")

    @property
    def takes_jobs(self) -> bool:
        return self._worker is not None and self._worker.takes_jobs

    async def start(self) -> None:
        # Calls connect again by themselves, and raise QueueUnavailable until the outage ends.
        try:
            async with self._client.open() as redis:
                await redis.ping()
        except QueueUnavailable as error:
            logger.warning("queue is down, trying again", error=str(error))

    async def stop(self) -> None:
        await self._client.close()

    async def publish(self, envelopes: Sequence[Envelope]) -> None:
        for batch in _split(envelopes):
            even_if_full = all(envelope.even_if_full for envelope in batch)
            script = _PUBLISH_EVEN_IF_FULL if even_if_full else _PUBLISH
            await self._client.run(script, *self._flatten(batch))

    def _flatten(self, envelopes: Sequence[Envelope]) -> tuple[list[str], list[bytes]]:
        """Return the keys and arguments of `_PUBLISH`. Each one costs time, so they are few."""
        keys: list[str] = []
        words: list[bytes] = []

        def add(job_id: str, priority: str, job: dict[str, Any], body: bytes) -> None:
            # streaq never reads an unknown priority. Each of these was checked.
            places = (self._stream + priority, self._delayed + priority)
            keys.extend((self.records.key(job_id), self._task + job_id, *places))
            words.extend((to_json(job), body))

        for envelope in envelopes:
            job: dict[str, Any] = {"id": envelope.id, "record": flatten(envelope.record)}
            if envelope.at is not None:
                job["due"] = str(round(envelope.at * 1000))
            add(envelope.id, envelope.priority, job, envelope.body)
            for job_id, record in envelope.following.items():
                later = {"record": flatten(record), "ttl": FOLLOWING_SECONDS}
                add(job_id, envelope.priority, later, b"")
        return keys, words

    async def stats(self) -> Stats:
        keys = [
            place + priority for priority in PRIORITIES for place in (self._stream, self._delayed)
        ]
        each: list[list[int]] = await self._client.run(_STATS, keys)
        pending, running, scheduled, oldest = zip(*each, strict=True)
        return Stats(
            sum(pending),
            sum(running),
            sum(scheduled),
            max(oldest) / 1000,
        )

    async def check(self) -> Condition:
        await self._client.run(_CHECK, [f"{REDIS_PREFIX}{self._queue_name}:check"])
        # A managed server may forbid these commands.
        info: dict[str, Any] = {}
        config: dict[Any, Any] = {}
        with suppress(QueueUnavailable):
            async with self._client.open() as redis:
                info = await redis.info("memory", "persistence")
                config = await redis.config_get("save")
        limit = info.get("maxmemory")
        return Condition(
            memory=info["used_memory"] / limit if limit else None,
            persists=_persists(info, config),
        )

    async def consume(self, handler: Handler, stop: asyncio.Event) -> None:
        self._worker = StoppableWorker(
            self._client,
            handler,
            stop,
            queue_name=self._queue_name,
            concurrency=self._concurrency,
            priorities=list(PRIORITIES),  # streaq reverses this list in place
            grace_period=round(self._grace_period),
        )
        await self._worker.run()


def _split(envelopes: Sequence[Envelope]) -> Iterator[list[Envelope]]:
    """Split messages into batches, by their number and their size."""
    batch: list[Envelope] = []
    size = 0
    for envelope in envelopes:
        batch.append(envelope)
        size += len(envelope.body)
        if len(batch) == PUBLISH_BATCH or size >= PUBLISH_BYTES:
            yield batch
            batch, size = [], 0
    if batch:
        yield batch


def _persists(info: dict[str, Any], config: dict[Any, Any]) -> bool | None:
    if info.get("aof_enabled"):
        return True
    return bool(config["save"]) if config else None

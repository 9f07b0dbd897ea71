"""Records of jobs in Redis or Valkey: one hash a job, whose values are JSON."""

import json
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager
from typing import Any, cast

from coredis import Redis, RedisCluster

from core.tasks.engines.streaq.batch import Batch
from core.tasks.records import JobRecord, RecordFields

Client = Redis[str] | RedisCluster[str]

# A function for the scripts below.
_HAS_ENDED = """
local function ended(key)
  local state = redis.call('hget', key, 'state')
  return state == '"completed"' or state == '"failed"' or state == '"aborted"'
end
"""

# One atomic round trip for many jobs. A job that has ended must never be marked as running again.
_BEGIN = f"""{_HAS_ENDED}
local records = {{}}
for at, key in ipairs(KEYS) do
  local limit = tonumber(ARGV[at])
  local suspect = limit > 0 and tonumber(redis.call('hget', key, 'deliveries') or 0) >= limit
  local is_over = ended(key)
  if not is_over and not suspect then
    redis.call('hset', key, 'state', '"running"')
    redis.call('hincrby', key, 'deliveries', 1)
  end
  local record = redis.call('hgetall', key)
  if suspect and not is_over then
    table.insert(record, 'suspect')
    table.insert(record, 'true')
  end
  records[at] = record
end
return records
"""

# The record of an ended job stays unchanged, even if a worker that seemed dead writes late.
_WRITE = f"""{_HAS_ENDED}
local at = 1
for _, key in ipairs(KEYS) do
  local ttl, count = tonumber(ARGV[at]), tonumber(ARGV[at + 1])
  if not ended(key) then
    redis.call('hset', key, unpack(ARGV, at + 2, at + 1 + count))
    if ttl > 0 then redis.call('pexpire', key, ttl) end
  end
  at = at + 2 + count
end
"""

_STASH = f"""{_HAS_ENDED}
if not ended(KEYS[1]) then
  redis.call('hset', KEYS[1], unpack(ARGV, 4))
  redis.call('pexpire', KEYS[1], ARGV[1])
  redis.call('hset', KEYS[2], ARGV[2], ARGV[3])
end
"""

# Aborts a pending or scheduled job, and marks a running one, whose worker then ends it.
_ABORT = """
local state = redis.call('hget', KEYS[1], 'state')
if state == '"pending"' or state == '"scheduled"' then
  redis.call('hset', KEYS[1], 'state', '"aborted"')
  redis.call('pexpire', KEYS[1], ARGV[1])
elseif state == '"running"' then
  redis.call('hset', KEYS[1], 'abort', 'true')
end
return redis.call('hgetall', KEYS[1])
"""

# If a holder has no record yet, its message is on its way.
_CLAIM = f"""{_HAS_ENDED}
local holders = {{}}
for at, key in ipairs(KEYS) do
  local holder = redis.call('get', key)
  if not holder or ended(ARGV[1] .. holder) then
    holder = ARGV[at + 2]
    redis.call('set', key, holder, 'PX', ARGV[2])
  end
  holders[at] = holder
end
return holders
"""
READ_BATCH = 100


class RedisRecords:
    """See `core.tasks.records.Records`.

    Args:
        redis: Opens the client for a block.
        prefix: The prefix of every key.
    """

    def __init__(
        self,
        redis: Callable[[], AbstractAsyncContextManager[Client]],
        prefix: str,
    ) -> None:
        self._redis = redis
        self._prefix = prefix
        self._stashed = prefix + "stashed"
        self._begin = Batch(self._begin_all)
        self._write = Batch(self._write_all)

    def key(self, job_id: str) -> str:
        """Return the key of a job's hash."""
        return f"{self._prefix}job:{job_id}"

    async def read(self, ids: list[str]) -> list[JobRecord]:
        async with self._redis() as redis:
            async with redis.pipeline(transaction=False) as pipe:
                replies = [pipe.hgetall(self.key(job_id)) for job_id in ids]
            return [_load(await reply) for reply in replies]

    async def begin(self, job_id: str, suspect_after: int | None = None) -> JobRecord:
        return await self._begin((job_id, suspect_after or 0))

    async def write(self, job_id: str, fields: RecordFields, ttl: float | None) -> None:
        await self._write((job_id, flatten(fields), ttl))

    async def request_abort(self, job_id: str, ttl: float) -> JobRecord:
        async with self._redis() as redis:
            reply = await redis.eval(
                _ABORT,
                keys=[self.key(job_id)],
                args=[round(ttl * 1000)],
            )
            return _pairs(cast("list[str]", reply))

    async def claim(self, keys: dict[str, str], ttl: float) -> dict[str, str]:
        async with self._redis() as redis:
            names = [f"{self._prefix}holder:{key}" for key in keys]
            holders = await redis.eval(
                _CLAIM,
                keys=names,
                args=[
                    self.key(""),
                    round(ttl * 1000),
                    *keys.values(),
                ],
            )
            return dict(zip(keys, cast("list[str]", holders), strict=True))

    async def stash(
        self,
        job_id: str,
        fields: RecordFields,
        ttl: float,
        dead_letter: dict[str, Any],
    ) -> None:
        async with self._redis() as redis:
            words = [
                round(ttl * 1000),
                dead_letter["id"],
                json.dumps(dead_letter),
                *flatten(fields),
            ]
            await redis.eval(_STASH, [self.key(job_id), self._stashed], words)

    async def stashed(self) -> AsyncIterator[dict[str, str]]:
        cursor = 0
        while True:
            async with self._redis() as redis:
                cursor, letters = await redis.hscan(self._stashed, cursor, count=READ_BATCH)
            if letters:
                yield letters
            if cursor == 0:
                return

    async def count_stashed(self) -> int:
        async with self._redis() as redis:
            return await redis.hlen(self._stashed)

    async def unstash(self, letter_ids: list[str]) -> None:
        async with self._redis() as redis:
            await redis.hdel(self._stashed, letter_ids)

    async def _begin_all(self, items: list[tuple[str, int]]) -> list[JobRecord]:
        async with self._redis() as redis:
            keys, limits = (
                [self.key(job_id) for job_id, _ in items],
                [limit for _, limit in items],
            )
            return [
                _pairs(record)
                for record in cast(
                    "list[list[str]]",
                    await redis.eval(_BEGIN, keys, limits),
                )
            ]

    async def _write_all(self, items: list[tuple[str, list[str], float | None]]) -> list[None]:
        words: list[str | int] = []
        for _, flat, ttl in items:
            words += [round((ttl or 0) * 1000), len(flat), *flat]
        async with self._redis() as redis:
            await redis.eval(
                _WRITE,
                [self.key(job_id) for job_id, _, _ in items],
                words,
            )
        return [None] * len(items)


def flatten(fields: RecordFields) -> list[str]:
    """Return names and values in turn, as the server keeps them."""
    # JSON escapes lone surrogates, which cannot be encoded.
    return [word for name, value in fields.items() for word in (name, json.dumps(value))]


def _load(fields: dict[str, str]) -> JobRecord:
    return JobRecord.from_fields({name: json.loads(value) for name, value in fields.items()})


def _pairs(flat: list[str]) -> JobRecord:
    return _load(dict(zip(flat[::2], flat[1::2], strict=True)))

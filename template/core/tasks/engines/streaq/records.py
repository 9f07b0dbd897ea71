"""Records of jobs in Redis or Valkey: one hash a job, whose values are JSON."""

import json
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from typing import cast

from coredis import Redis, RedisCluster

from core.tasks.records import Fields

Client = Redis[str] | RedisCluster[str]

# Atomic, and one round trip: a job that has ended must never be marked as running again.
_BEGIN = """
local state = redis.call('hget', KEYS[1], 'state')
local limit = tonumber(ARGV[1])
if not (state == '"completed"' or state == '"failed"' or state == '"aborted"') then
  if limit > 0 and tonumber(redis.call('hget', KEYS[1], 'deliveries') or 0) >= limit then
    local record = redis.call('hgetall', KEYS[1])
    table.insert(record, 'suspect')
    table.insert(record, 'true')
    return record
  end
  redis.call('hset', KEYS[1], 'state', '"running"')
  redis.call('hincrby', KEYS[1], 'deliveries', 1)
end
return redis.call('hgetall', KEYS[1])
"""


# A job that waits is aborted here; one that runs is told, and ends by itself.
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

# A holder without a record is one whose message is on its way.
_CLAIM = """
local holder = redis.call('get', KEYS[1])
if holder then
  local state = redis.call('hget', ARGV[3] .. holder, 'state')
  if not (state == '"completed"' or state == '"failed"' or state == '"aborted"') then
    return holder
  end
end
redis.call('set', KEYS[1], ARGV[1], 'PX', ARGV[2])
return ARGV[1]
"""
SOME = 100


class RedisRecords:
    """See `core.tasks.records.Records`.

    Args:
        redis: Opens the client for a block.
        prefix: Of every key.
    """

    def __init__(self, redis: Callable[[], AbstractAsyncContextManager[Client]], prefix: str) -> None:
        self._redis = redis
        self._prefix = prefix
        self._buried = prefix + "buried"

    def key(self, job_id: str) -> str:
        """The hash of one job."""
        return f"{self._prefix}job:{job_id}"

    async def read(self, ids: list[str]) -> list[Fields]:
        async with self._redis() as redis:
            async with redis.pipeline(transaction=False) as pipe:
                replies = [pipe.hgetall(self.key(job_id)) for job_id in ids]
            return [_load(await reply) for reply in replies]

    async def begin(self, job_id: str, limit: int | None = None) -> Fields:
        return await self._evaluate(_BEGIN, job_id, limit or 0)

    async def write(self, job_id: str, fields: Fields, ttl: float | None) -> None:
        key = self.key(job_id)
        async with self._redis() as redis, redis.pipeline(transaction=True) as pipe:
            pipe.hset(key, {name: json.dumps(value) for name, value in fields.items()})
            if ttl is not None:
                pipe.pexpire(key, round(ttl * 1000))

    async def request_abort(self, job_id: str, ttl: float) -> Fields:
        return await self._evaluate(_ABORT, job_id, round(ttl * 1000))

    async def claim(self, keys: dict[str, str], ttl: float) -> dict[str, str]:
        async with self._redis() as redis:
            async with redis.pipeline(transaction=False) as pipe:
                replies = {
                    key: pipe.eval(
                        _CLAIM, keys=[f"{self._prefix}holder:{key}"], args=[job_id, round(ttl * 1000), self.key("")]
                    )
                    for key, job_id in keys.items()
                }
            return {key: cast("str", await reply) for key, reply in replies.items()}

    async def bury(self, job_id: str, fields: Fields, ttl: float, letter: Fields) -> None:
        key = self.key(job_id)
        async with self._redis() as redis, redis.pipeline(transaction=True) as pipe:
            pipe.hset(key, {name: json.dumps(value) for name, value in fields.items()})
            pipe.pexpire(key, round(ttl * 1000))
            pipe.hset(self._buried, {letter["id"]: json.dumps(letter)})

    async def buried(self) -> list[Fields]:
        async with self._redis() as redis:
            _, letters = await redis.hscan(self._buried, count=SOME)
            return [json.loads(letter) for letter in letters.values()]

    async def unbury(self, letter_ids: list[str]) -> None:
        async with self._redis() as redis:
            await redis.hdel(self._buried, letter_ids)

    async def _evaluate(self, script: str, job_id: str, *arguments: int) -> Fields:
        async with self._redis() as redis:
            flat = cast("list[str]", await redis.eval(script, keys=[self.key(job_id)], args=arguments))
            return _load(dict(zip(flat[::2], flat[1::2], strict=True)))


def _load(fields: dict[str, str]) -> Fields:
    return {name: json.loads(value) for name, value in fields.items()}

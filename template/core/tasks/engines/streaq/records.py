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
if not (state == '"completed"' or state == '"failed"' or state == '"aborted"') then
  redis.call('hset', KEYS[1], 'state', '"running"')
  redis.call('hincrby', KEYS[1], 'deliveries', 1)
end
return redis.call('hgetall', KEYS[1])
"""


class RedisRecords:
    """See `core.tasks.records.Records`.

    Args:
        redis: Opens the client for a block.
        prefix: Of every key.
    """

    def __init__(self, redis: Callable[[], AbstractAsyncContextManager[Client]], prefix: str) -> None:
        self._redis = redis
        self._prefix = prefix

    def key(self, job_id: str) -> str:
        """The hash of one job."""
        return self._prefix + job_id

    async def read(self, ids: list[str]) -> list[Fields]:
        async with self._redis() as redis:
            async with redis.pipeline(transaction=False) as pipe:
                replies = [pipe.hgetall(self.key(job_id)) for job_id in ids]
            return [_load(await reply) for reply in replies]

    async def begin(self, job_id: str) -> Fields:
        async with self._redis() as redis:
            flat = cast("list[str]", await redis.eval(_BEGIN, keys=[self.key(job_id)]))
            return _load(dict(zip(flat[::2], flat[1::2], strict=True)))

    async def write(self, job_id: str, fields: Fields, ttl: float | None) -> None:
        key = self.key(job_id)
        async with self._redis() as redis, redis.pipeline(transaction=True) as pipe:
            pipe.hset(key, {name: json.dumps(value) for name, value in fields.items()})
            if ttl is not None:
                pipe.pexpire(key, round(ttl * 1000))


def _load(fields: dict[str, str]) -> Fields:
    return {name: json.loads(value) for name, value in fields.items()}

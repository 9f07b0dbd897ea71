"""Records of jobs in Redis or Valkey: one hash a job, whose values are JSON."""

import json
from collections.abc import AsyncIterator
from typing import Any, cast

from core.logging import get_logger
from core.tasks.engines.streaq.batch import Batch
from core.tasks.engines.streaq.client import EVEN_IF_FULL, Client, Word
from core.tasks.records import JobRecord, RecordFields

logger = get_logger(__name__)

_READ = """
local records = {}
for at, key in ipairs(KEYS) do records[at] = redis.call('hgetall', key) end
return records
"""

# Functions for the scripts below. The fence is 0 outside a run.
_HAS_ENDED = """
local function ended(key)
  local state = redis.call('hget', key, 'state')
  return state == '"completed"' or state == '"failed"' or state == '"aborted"'
end
"""
_MAY_WRITE = f"""{_HAS_ENDED}
local function may_write(key, fence)
  return not ended(key) and (fence == '0' or redis.call('hget', key, 'fence') == fence)
end
"""

# One atomic round trip for many jobs. A job that has ended must never be marked as running again.
_BEGIN = f"""{EVEN_IF_FULL}
{_HAS_ENDED}
local records = {{}}
for at, key in ipairs(KEYS) do
  local limit = tonumber(ARGV[at])
  local counts = redis.call('hmget', key, 'deliveries', 'blocked', 'fence')
  local deliveries = tonumber(counts[1] or 0) or 0
  local blocked = tonumber(counts[2] or 0) or 0
  local suspect = limit > 0 and (deliveries >= limit or blocked > 0)
  local is_over = ended(key)
  if not is_over and not suspect then
    local fence = tonumber(counts[3] or 0) or 0
    local run = {{'deliveries', deliveries + 1, 'fence', fence + 1}}
    redis.call('hset', key, 'state', '"running"', unpack(run))
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

_BLAME = f"""{EVEN_IF_FULL}
{_HAS_ENDED}
if redis.call('exists', KEYS[1]) == 1 and not ended(KEYS[1]) then
  redis.call('hincrby', KEYS[1], 'blocked', 1)
end
"""

# Returns 1 for each record that was changed, and 0 for the others.
_WRITE = f"""{EVEN_IF_FULL}
{_MAY_WRITE}
local at, written = 1, {{}}
for number, key in ipairs(KEYS) do
  local ttl, fence, count = tonumber(ARGV[at]), ARGV[at + 1], tonumber(ARGV[at + 2])
  written[number] = 0
  if may_write(key, fence) then
    redis.call('hset', key, unpack(ARGV, at + 3, at + 2 + count))
    if ttl > 0 then redis.call('pexpire', key, ttl) end
    written[number] = 1
  end
  at = at + 3 + count
end
return written
"""

_STASH = f"""{EVEN_IF_FULL}
{_MAY_WRITE}
if not may_write(KEYS[1], ARGV[4]) then return 0 end
redis.call('hset', KEYS[1], unpack(ARGV, 5))
redis.call('pexpire', KEYS[1], ARGV[1])
redis.call('hset', KEYS[2], ARGV[2], ARGV[3])
return 1
"""

# Aborts a pending or scheduled job, and marks a running one, whose worker then ends it.
_ABORT = f"""{EVEN_IF_FULL}
local state = redis.call('hget', KEYS[1], 'state')
if state == '"pending"' or state == '"scheduled"' then
  redis.call('hset', KEYS[1], 'state', '"aborted"')
  redis.call('pexpire', KEYS[1], ARGV[1])
elseif state == '"running"' then
  redis.call('hset', KEYS[1], 'abort', 'true')
end
"""

# If a holder has no record yet, its message is on its way.
_CLAIM = f"""{_HAS_ENDED}
local holders = {{}}
for at, key in ipairs(KEYS) do
  local holder = redis.call('get', key)
  if not holder or ended(ARGV[1] .. (string.match(holder, ' (.*)') or '')) then
    holder = ARGV[at + 2]
    redis.call('set', key, holder, 'PX', ARGV[2])
  end
  holders[at] = holder
end
return holders
"""
READ_BATCH = 50
READ_SECONDS = 30.0
"""Dead letters may be large, so reading some of them may take longer than other calls."""


class RedisRecords:
    """See `core.tasks.records.Records`.

    Args:
        client: The client of the server.
        prefix: The prefix of every key.
    """

    def __init__(self, client: Client, prefix: str) -> None:
        self._client = client
        self._prefix = prefix
        self._stashed = prefix + "stashed"
        self._begin = Batch(self._begin_all)
        self._write = Batch(self._write_all)

    def key(self, job_id: str) -> str:
        """Return the key of a job's hash."""
        return f"{self._prefix}job:{job_id}"

    async def read(self, ids: list[str]) -> list[JobRecord]:
        keys = [self.key(job_id) for job_id in ids]
        found = await self._client.run(_READ, keys)
        return [_load(*pair) for pair in zip(ids, found, strict=True)]

    async def begin(self, job_id: str, suspect_after: int | None = None) -> JobRecord:
        return await self._begin((job_id, suspect_after or 0))

    def blame(self, job_id: str) -> None:
        self._client.run_blocking(_BLAME, [self.key(job_id)])

    async def write(
        self,
        job_id: str,
        fields: RecordFields,
        ttl: float | None,
        fence: int = 0,
    ) -> bool:
        return await self._write((job_id, flatten(fields), ttl, fence))

    async def request_abort(self, job_id: str, ttl: float) -> None:
        await self._client.run(_ABORT, [self.key(job_id)], [round(ttl * 1000)])

    async def claim(self, claims: dict[str, str], ttl: float) -> dict[str, str]:
        names = [f"{self._prefix}holder:{key}" for key in claims]
        words: list[Word] = [self.key(""), round(ttl * 1000), *claims.values()]
        holders = await self._client.run(_CLAIM, names, words)
        return {key: holder.decode() for key, holder in zip(claims, holders, strict=True)}

    async def stash(
        self,
        job_id: str,
        fields: RecordFields,
        ttl: float,
        dead_letter: dict[str, Any],
        fence: int = 0,
    ) -> bool:
        words: list[Word] = [
            round(ttl * 1000),
            dead_letter["id"],
            json.dumps(dead_letter),
            fence,
            *flatten(fields),
        ]
        return bool(await self._client.run(_STASH, [self.key(job_id), self._stashed], words))

    async def stashed(self) -> AsyncIterator[dict[str, str]]:
        cursor = 0
        while True:
            async with self._client.open(READ_SECONDS) as redis:
                cursor, letters = await redis.hscan(self._stashed, cursor, count=READ_BATCH)
            pairs = cast("dict[bytes, bytes]", letters).items()
            if pairs:
                yield {key.decode(): letter.decode(errors="replace") for key, letter in pairs}
            if cursor == 0:
                return

    async def count_stashed(self) -> int:
        async with self._client.open() as redis:
            return await redis.hlen(self._stashed)

    async def unstash(self, letter_ids: list[str]) -> None:
        async with self._client.open() as redis:
            await redis.hdel(self._stashed, *letter_ids)

    async def _begin_all(self, items: list[tuple[str, int]]) -> list[JobRecord]:
        ids = [job_id for job_id, _ in items]
        limits = [limit for _, limit in items]
        keys = [self.key(job_id) for job_id in ids]
        found = await self._client.run(_BEGIN, keys, limits)
        return [_load(*pair) for pair in zip(ids, found, strict=True)]

    async def _write_all(
        self,
        items: list[tuple[str, list[str], float | None, int]],
    ) -> list[bool]:
        words: list[Word] = []
        for _, flat, ttl, fence in items:
            words += [round((ttl or 0) * 1000), fence, len(flat), *flat]
        keys = [self.key(job_id) for job_id, *_ in items]
        return [bool(each) for each in await self._client.run(_WRITE, keys, words)]


def flatten(fields: RecordFields) -> list[str]:
    """Return names and values in turn, as the server keeps them."""
    # JSON escapes lone surrogates, which cannot be encoded.
    return [word for name, value in fields.items() for word in (name, json.dumps(value))]


def _load(job_id: str, flat: list[bytes]) -> JobRecord:
    """Return a record. One that cannot be read is `unknown`."""
    pairs = zip(flat[::2], flat[1::2], strict=True)
    try:
        return JobRecord.from_fields({name.decode(): json.loads(value) for name, value in pairs})
    except (ValueError, RecursionError) as error:
        problem = str(error).partition("\n")[0]
        logger.warning("record cannot be read", job_id=job_id, error=problem)
        return JobRecord()

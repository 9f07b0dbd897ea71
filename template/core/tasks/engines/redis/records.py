"""Records of jobs in Redis or Valkey; `lua/common.lua` describes their form."""

from collections.abc import AsyncIterator
from typing import Any, cast

from pydantic_core import from_json, to_json

from core.logging import get_logger
from core.tasks.engines.redis.client import Client, Word, split
from core.tasks.records import (
    JobRecord,
    JobStatus,
    RecordFields,
    Slots,
    dump_rest,
)

logger = get_logger(__name__)

WAITING = "waiting"
"""The status of a chain's later stage that has no message yet. For users it is pending."""
READ_BATCH = 50
READ_SECONDS = 30.0
"""Dead letters may be large, so reading a batch of them may take longer than other calls."""

_DEFAULT_WORDS = ["", "0", "0", "0", "0", "-"]


class RedisRecords:
    """See `core.tasks.records.Records`.

    Args:
        client: The client of the server.
        worker: The name of this process's worker.
    """

    def __init__(self, client: Client, worker: str) -> None:
        self._client = client
        self._worker = worker

    async def read(self, ids: list[str]) -> list[JobRecord]:
        stored = await self._read(ids)
        return [load(*pair) for pair in zip(ids, stored, strict=True)]

    async def begin(self, job_id: str, fence: int | None = None) -> JobRecord:
        known = "" if fence is None else fence
        return load(job_id, await self._client.run("begin", job_id, self._worker, known))

    async def acquire(self, job_id: str, fence: int, slots: Slots) -> int | None:
        words = " ".join(f"{key} {most}" for key, most in slots.items())
        waiting: int = await self._client.run("acquire", job_id, fence, words)
        return waiting if waiting >= 0 else None

    def blame(self, job_id: str) -> None:
        self._client.run_blocking("blame", job_id, self._worker)

    async def write_progress(self, job_id: str, progress: Any, fence: int) -> bool:
        return bool(await self._client.run("progress", job_id, fence, to_json(progress)))

    async def request_abort(self, job_id: str, ttl: float) -> bool:
        return bool(await self._client.run("abort", job_id, milliseconds(ttl)))

    async def claim(self, claims: dict[str, str], ttl: float) -> dict[str, str]:
        words: list[Word] = [word for pair in claims.items() for word in pair]
        holders = await self._client.run("claim", milliseconds(ttl), *words)
        return {key: holder.decode() for key, holder in zip(claims, holders, strict=True)}

    async def stashed(self) -> AsyncIterator[dict[str, str]]:
        cursor = 0
        while True:
            async with self._client.open(READ_SECONDS) as redis:
                cursor, letters = await redis.hscan(self._client.stashed, cursor, count=READ_BATCH)
            pairs = cast("dict[bytes, bytes]", letters).items()
            if pairs:
                yield {key.decode(): letter.decode(errors="replace") for key, letter in pairs}
            if cursor == 0:
                return

    async def count_stashed(self) -> int:
        async with self._client.open() as redis:
            return await redis.hlen(self._client.stashed)

    async def unstash(self, letter_ids: list[str]) -> None:
        async with self._client.open() as redis:
            await redis.hdel(self._client.stashed, *letter_ids)

    async def _read(self, ids: list[str]) -> list[bytes | None]:
        # Anybody may ask for any id. One that cannot be encoded has no record.
        keys = [self._client.record_key(job_id).encode(errors="replace") for job_id in ids]
        found: list[Any] = []
        for batch in split([key] for key in keys):
            async with self._client.open() as redis:
                found += await redis.mget(key for (key,) in batch)
        return found


def milliseconds(seconds: float | None) -> int:
    """Return a time in the unit of the scripts; 0 for None."""
    return round((seconds or 0) * 1000)


def dump(fields: RecordFields, status: str | None = None) -> bytes:
    """Return a record as the server keeps it.

    Args:
        fields: The record's fields.
        status: The status to store in place of the one in the fields.
    """
    status = status or fields.get("state", JobStatus.PENDING)
    counts = [fields.get("fence", 0), fields.get("deliveries", 0), fields.get("blocked", 0)]
    abort, worker = int(fields.get("abort", False)), fields.get("worker") or "-"
    words = [status, *map(str, [*counts, abort, worker])]
    while words[-1] == _DEFAULT_WORDS[len(words) - 1]:
        words.pop()
    progress = fields.get("progress")
    lines = [" ".join(words).encode(), to_json(progress) if progress else b"", dump_rest(fields)]
    return b"\n".join(lines)


def load(job_id: str, stored: bytes | None) -> JobRecord:
    """Return a record. One that cannot be read is `unknown`, and keeps at most its fence.

    Args:
        job_id: The job's id.
        stored: The record as the server keeps it, or None.
    """
    if stored is None:
        return JobRecord()
    fence = 0
    try:
        line, progress, rest = stored.split(b"\n", 2)
        fields = _parse_line(line.decode())
        fence = fields["fence"]
        if progress:
            fields["progress"] = from_json(progress)
        return JobRecord.from_fields({**from_json(rest), **fields})
    except (ValueError, TypeError, RecursionError) as error:
        problem = str(error).partition("\n")[0]
        logger.warning("record cannot be read", job_id=job_id, error=problem)
        return JobRecord(fence=fence)


def _parse_line(line: str) -> RecordFields:
    words = line.split(" ")
    words += _DEFAULT_WORDS[len(words) :]
    status, fence, deliveries, blocked, abort, worker = words
    return {
        "state": JobStatus.PENDING if status == WAITING else cast(JobStatus, status),
        "fence": int(fence),
        "deliveries": int(deliveries),
        "blocked": int(blocked),
        "abort": abort == "1",
        "worker": None if worker == "-" else worker,
    }

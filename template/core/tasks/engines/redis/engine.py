"""The engine: it publishes messages, counts them, and runs a consumer."""

import asyncio
import threading
import time
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import replace
from typing import Any, ClassVar
from uuid import uuid4

from core.logging import get_logger
from core.tasks.engine import RANKS, Condition, Handler, Listed, Promise, Stats
from core.tasks.engines.redis import pages
from core.tasks.engines.redis.client import GROUP, Client, Word, split
from core.tasks.engines.redis.consumer import Consumer
from core.tasks.engines.redis.records import WAITING, RedisRecords, dump, milliseconds
from core.tasks.errors import QueueUnavailable
from core.tasks.outcome import FOLLOWING_SECONDS, Envelope
from core.tasks.queue_server import read_condition
from core.tasks.records import JobStatus

logger = get_logger(__name__)


class RedisEngine:
    """See `core.tasks.engine.Engine`.

    Args:
        url: The URL of the Redis or Valkey server.
        queue_name: The name that separates services on one server.
        concurrency: The number of jobs that one worker runs at once.
        grace_period: Seconds that running jobs get at the end.
    """

    promises: ClassVar[frozenset[Promise]] = frozenset(
        {
            Promise.DURABLE,
            Promise.ORDERLY_STOP,
            Promise.PRIORITIES,
            Promise.EXACT_DELAYS,
            Promise.SERVER_RESTART,
            Promise.BOUNDED,
            Promise.MONGODB_OUTAGE,
        }
    )
    in_process: ClassVar[bool] = False

    def __init__(
        self,
        url: str,
        queue_name: str,
        concurrency: int,
        grace_period: float,
    ) -> None:
        self.stashed = asyncio.Event()
        self.paused = threading.Event()
        self._concurrency = concurrency
        self._grace_period = grace_period
        self.name = uuid4().hex[:12]
        self._client = Client(url, queue_name)
        self._consumer: Consumer | None = None
        self.records = RedisRecords(self._client, self.name)

    @property
    def takes_jobs(self) -> bool:
        return self._consumer is not None and self._consumer.takes_jobs

    async def start(self) -> None:
        # Calls connect again by themselves, and raise QueueUnavailable until the outage ends.
        try:
            async with self._client.open() as redis:
                await redis.ping()
        except QueueUnavailable as error:
            logger.warning("queue is down, trying again", error=str(error))

    async def stop(self) -> None:
        await self._client.close()

    async def publish(self, envelopes: Iterable[Envelope]) -> None:
        rows = (row for envelope in envelopes for row in _flatten(envelope))
        for batch in split(rows):
            await self._client.run("publish", *(word for row in batch for word in row))

    async def stats(self) -> Stats:
        each: list[list[int]] = await self._client.run("stats")
        pending, running, scheduled, oldest = zip(*each, strict=True)
        return Stats(sum(pending), sum(running), sum(scheduled), max(oldest) / 1000)

    async def browse(
        self,
        status: JobStatus,
        after: str | None,
        limit: int,
    ) -> tuple[list[Listed], str | None]:
        words = pages.unpack(after) if after else ()
        rows, has_more = await self._client.run("browse", status, GROUP, limit, *words)
        return pages.load(rows), pages.pack(rows[-1]) if has_more else None

    async def check(self) -> Condition:
        await self._client.run("check")
        # A managed server may forbid these commands.
        info: dict[str, Any] = {}
        config: dict[Any, Any] = {}
        now = 0.0
        with suppress(QueueUnavailable):
            async with self._client.open() as redis:
                info = await redis.info("memory", "persistence", "server")
                now = time.time()
                config = await redis.config_get("save")
        return replace(read_condition(info, now), persists=_persists(info, config))

    async def consume(self, handler: Handler, stop: asyncio.Event) -> None:
        self._consumer = Consumer(
            self._client,
            self.name,
            handler,
            self._concurrency,
            self._grace_period,
            self.stashed,
            self.paused,
        )
        await self._consumer.run(stop)


def _flatten(envelope: Envelope) -> Iterator[list[Word]]:
    """Yield the words of the script `publish`: a row for the job and one for each later stage."""
    rank = RANKS[envelope.priority]
    due: Word = "" if envelope.at is None else milliseconds(envelope.at)
    yield [envelope.id, rank, due, 0, dump(envelope.record), envelope.body]
    for job_id, record in envelope.following.items():
        later = dump(record, WAITING)
        yield [job_id, rank, "", milliseconds(FOLLOWING_SECONDS), later, b""]


def _persists(info: dict[str, Any], config: dict[Any, Any]) -> bool | None:
    if info.get("aof_enabled"):
        return True
    return bool(config["save"]) if config else None

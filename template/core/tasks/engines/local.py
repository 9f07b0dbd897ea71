"""The engine `local`: asyncio, in this process, without a server.

It is volatile: jobs that wait when the process ends are lost, which it logs.
"""

import asyncio
import time
from collections.abc import Sequence
from itertools import count
from typing import ClassVar

from core.config import Settings
from core.logging import get_logger
from core.tasks.engine import FOLLOWING_SECONDS, PRIORITIES, Delivery, Handler, Stats
from core.tasks.outcome import Retry
from core.tasks.records import Fields, JobStatus, status_of

logger = get_logger(__name__)

_RANK = {priority: -index for index, priority in enumerate(PRIORITIES)}


class MemoryRecords:
    """Records in a dictionary; ended ones go when their time is over."""

    def __init__(self) -> None:
        self._records: dict[str, Fields] = {}
        self._buried: dict[str, Fields] = {}
        self._holders: dict[str, str] = {}

    async def read(self, ids: list[str]) -> list[Fields]:
        return [dict(self._records.get(job_id, {})) for job_id in ids]

    async def begin(self, job_id: str, limit: int | None = None) -> Fields:
        record = self._records.setdefault(job_id, {"state": JobStatus.PENDING})
        if limit and record.get("deliveries", 0) >= limit:
            return {**record, "suspect": True}
        if not status_of(record).is_final:
            record.update(state=JobStatus.RUNNING, deliveries=record.get("deliveries", 0) + 1)
        return dict(record)

    async def write(self, job_id: str, fields: Fields, ttl: float | None) -> None:
        record = self._records.setdefault(job_id, {})
        if status_of(record).is_final:
            return
        record.update(fields)
        self._expire(job_id, ttl)

    async def request_abort(self, job_id: str, ttl: float) -> Fields:
        record = self._records.get(job_id, {})
        if record.get("state") in (JobStatus.PENDING, JobStatus.SCHEDULED):
            await self.write(job_id, {"state": JobStatus.ABORTED}, ttl)
        elif record.get("state") == JobStatus.RUNNING:
            record["abort"] = True
        return dict(record)

    async def claim(self, keys: dict[str, str], ttl: float) -> dict[str, str]:
        for key, job_id in keys.items():
            holder = self._holders.get(key)
            if holder is None or status_of(self._records.get(holder, {})).is_final:
                self._holders[key] = job_id
                asyncio.get_running_loop().call_later(ttl, self._release, key, job_id)
        return {key: self._holders[key] for key in keys}

    async def bury(self, job_id: str, fields: Fields, ttl: float, letter: Fields) -> None:
        if not status_of(self._records.get(job_id, {})).is_final:
            await self.write(job_id, fields, ttl)
            self._buried[letter["id"]] = letter

    async def buried(self) -> list[Fields]:
        return list(self._buried.values())

    async def unbury(self, letter_ids: list[str]) -> None:
        for letter_id in letter_ids:
            self._buried.pop(letter_id, None)

    def _release(self, key: str, job_id: str) -> None:
        if self._holders.get(key) == job_id:
            del self._holders[key]

    def add(self, job_id: str, fields: Fields, ttl: float | None = None) -> None:
        """Add a record, unless there is one."""
        if job_id not in self._records:
            self._records[job_id] = dict(fields)
            self._expire(job_id, ttl)

    def _expire(self, job_id: str, ttl: float | None) -> None:
        if ttl is not None:
            asyncio.get_running_loop().call_later(ttl, self._records.pop, job_id, None)


class LocalEngine:
    """See `core.tasks.engine.Engine`.

    Args:
        concurrency: Jobs that run at once.
        grace_period: Seconds that running jobs get at the end.
    """

    durable: ClassVar[bool] = False
    in_process: ClassVar[bool] = True

    def __init__(self, concurrency: int, grace_period: float) -> None:
        self.records = MemoryRecords()
        self._slots = asyncio.Semaphore(concurrency)
        self._grace_period = grace_period
        self._ready: asyncio.PriorityQueue[tuple[int, int, Delivery]] = asyncio.PriorityQueue()
        self._delayed: dict[str, asyncio.TimerHandle] = {}
        self._ready_since: dict[str, float] = {}
        self._order = count()
        self._known: set[str] = set()
        self._running: set[asyncio.Task[None]] = set()

    async def start(self) -> None:
        """Nothing needs to be opened."""

    async def stop(self) -> None:
        """Forget the delayed jobs."""
        for timer in self._delayed.values():
            timer.cancel()
        if lost := len(self._delayed) + self._ready.qsize():
            logger.warning("jobs lost: the local engine keeps them in memory only", count=lost)

    async def publish(self, deliveries: Sequence[Delivery]) -> None:
        for delivery in deliveries:
            if delivery.id not in self._known:
                self._known.add(delivery.id)
                self.records.add(delivery.id, delivery.record)
                for job_id, record in delivery.following.items():
                    self.records.add(job_id, record, FOLLOWING_SECONDS)
                self._queue(delivery, max(0.0, (delivery.at or 0) - time.time()))

    async def stats(self) -> Stats:
        oldest = min(self._ready_since.values(), default=None)
        age = time.time() - oldest if oldest else 0.0
        return Stats(self._ready.qsize(), len(self._running), len(self._delayed), age)

    async def consume(self, handler: Handler, stop: asyncio.Event) -> None:
        stopped = asyncio.create_task(stop.wait())
        try:
            while not stop.is_set():
                taking = asyncio.create_task(self._take())
                await asyncio.wait({taking, stopped}, return_when=asyncio.FIRST_COMPLETED)
                if not taking.done():
                    taking.cancel()
                    break
                task = asyncio.create_task(self._run(handler, taking.result()))
                self._running.add(task)
                task.add_done_callback(self._running.discard)
        finally:
            stopped.cancel()
            await self._finish_running()

    def _queue(self, delivery: Delivery, seconds: float) -> None:
        def make_ready() -> None:
            self._delayed.pop(delivery.id, None)
            self._ready_since[delivery.id] = time.time()
            self._ready.put_nowait((_RANK[delivery.priority], next(self._order), delivery))

        if seconds:
            self._delayed[delivery.id] = asyncio.get_running_loop().call_later(seconds, make_ready)
        else:
            make_ready()

    async def _take(self) -> Delivery:
        """The next job, once there is a free slot for it."""
        await self._slots.acquire()
        try:
            delivery = (await self._ready.get())[2]
            self._ready_since.pop(delivery.id, None)
            return delivery
        except asyncio.CancelledError:
            self._slots.release()
            raise

    async def _run(self, handler: Handler, delivery: Delivery) -> None:
        try:
            outcome = await handler(delivery.id, delivery.body)
        finally:
            self._slots.release()
        if isinstance(outcome, Retry):
            self._queue(delivery, outcome.after)
        else:
            self._known.discard(delivery.id)

    async def _finish_running(self) -> None:
        if not self._running:
            return
        _, late = await asyncio.wait(self._running, timeout=self._grace_period)
        for task in late:
            task.cancel()
        if late:
            logger.warning("jobs cancelled: they did not end within the grace period", count=len(late))
            await asyncio.wait(late)


def build(settings: Settings) -> LocalEngine:
    """The engine that these settings describe."""
    return LocalEngine(settings.task_concurrency, settings.task_grace_period)

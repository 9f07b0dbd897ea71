"""The engine `local`: a queue in the memory of this process, without a server.

When the process ends, pending and scheduled jobs are lost, and their number is logged.
"""

import asyncio
import heapq
import json
import threading
import time
from bisect import bisect_right
from collections import defaultdict, deque
from collections.abc import AsyncIterator, Callable, Iterable, Iterator
from itertools import count, islice
from operator import itemgetter
from typing import ClassVar
from uuid import uuid4

from core.config import Settings
from core.logging import get_logger
from core.tasks.engine import (
    RANKS,
    SUSPECT_DELIVERIES,
    BadPosition,
    Condition,
    Delivery,
    Handler,
    Listed,
    Promise,
    Stats,
)
from core.tasks.outcome import Ended, Envelope, Outcome, Retry
from core.tasks.records import (
    STAGE,
    JobRecord,
    JobStatus,
    ProgressFields,
    RecordFields,
    Slots,
    StashedLetter,
)
from core.tasks.upkeep import finish_jobs

logger = get_logger(__name__)

_Place = tuple[float, str]
"""A place among the jobs of one status: a priority's rank and a number, or a time and an id."""
_Entry = tuple[_Place, float, Envelope]
"""A message with its place, and with the time at which it is due."""


class MemoryRecords:
    """Records in a dictionary; see `core.tasks.records.Records`.

    Args:
        worker: The name of the worker.
        drop: Called with the id of a job that was aborted before its run.
    """

    def __init__(self, worker: str, drop: Callable[[str], None]) -> None:
        self._worker = worker
        self._drop = drop
        self._records: dict[str, RecordFields] = {}
        self._stashed: dict[str, str] = {}
        self._holders: dict[str, str] = {}
        self._slots: dict[str, Slots] = {}
        self._held: defaultdict[str, set[str]] = defaultdict(set)

    def add(self, job_id: str, fields: RecordFields) -> None:
        """Add a record, unless the job has one.

        Args:
            job_id: The job's id.
            fields: The record's fields.
        """
        self._records.setdefault(job_id, fields.copy())

    async def read(self, ids: list[str]) -> list[JobRecord]:
        return [self._read(job_id) for job_id in ids]

    async def begin(self, job_id: str, fence: int | None = None) -> JobRecord:
        fields = self._records.setdefault(job_id, {"state": JobStatus.PENDING})
        if not self.has_ended(job_id) and fence in (None, fields.get("fence", 0)):
            fields["state"] = JobStatus.RUNNING
            fields["worker"] = self._worker
            fields["deliveries"] = fields.get("deliveries", 0) + 1
            fields["fence"] = fields.get("fence", 0) + 1
        return self._read(job_id)

    async def acquire(self, job_id: str, fence: int, slots: Slots) -> int | None:
        if self._read(job_id).fence != fence:
            return 0
        self.give_back(job_id)
        self._slots[job_id] = slots
        return None if self.hold(job_id) else 0

    def hold(self, job_id: str) -> bool:
        """Let a job hold all slots that it needs, or none of them.

        Args:
            job_id: The job's id.

        Returns:
            Whether it holds them.
        """
        slots = self._slots[job_id]
        if any(len(self._held[key]) >= most for key, most in slots.items()):
            return False
        for key in slots:
            self._held[key].add(job_id)
        return True

    def give_back(self, job_id: str) -> bool:
        """Take a job's slots away, and return whether it held or awaited any.

        Args:
            job_id: The job's id.
        """
        slots = self._slots.pop(job_id, {})
        for key in slots:
            self._held[key].discard(job_id)
            if not self._held[key]:
                del self._held[key]
        return bool(slots)

    def blame(self, job_id: str) -> None:
        fields = self._records.get(job_id, {})
        if not self.has_ended(job_id):
            fields["blocked"] = fields.get("blocked", 0) + 1

    async def write(
        self,
        job_id: str,
        fields: RecordFields,
        ttl: float | None,
        fence: int = 0,
        dead_letter: StashedLetter | None = None,
    ) -> bool:
        """Set fields of a record. The record of a job that has ended stays unchanged.

        Args:
            job_id: The job's id.
            fields: The fields to set.
            ttl: Seconds until the record expires; None while the job has not ended.
            fence: The fence of the run that writes, or 0 outside a run. A record with another
                fence stays unchanged.
            dead_letter: A dead letter to stash in the same step.

        Returns:
            Whether the fields were set.
        """
        record = self._read(job_id)
        if record.state.is_final or fence not in (0, record.fence):
            return False
        self._records.setdefault(job_id, {}).update(fields)
        if "state" in fields:
            self._records[job_id]["worker"] = None  # a run writes no state before its end
        self._expire(job_id, ttl)
        if dead_letter:
            self._stashed[dead_letter["id"]] = json.dumps(dead_letter)
        return True

    async def write_progress(self, job_id: str, progress: ProgressFields, fence: int) -> bool:
        return await self.write(job_id, {"progress": progress}, None, fence)

    async def request_abort(self, job_id: str, ttl: float) -> bool:
        state = self._read(job_id).state
        if state in (JobStatus.PENDING, JobStatus.SCHEDULED):
            await self.write(job_id, {"state": JobStatus.ABORTED}, ttl)
            self._drop(job_id)
            return True
        if state is JobStatus.RUNNING:
            self._records[job_id]["abort"] = True
        return False

    async def claim(self, claims: dict[str, str], ttl: float) -> dict[str, str]:
        loop = asyncio.get_running_loop()
        for key, claim in claims.items():
            _, _, holder = self._holders.get(key, "").partition(" ")
            if key not in self._holders or self.has_ended(holder):
                self._holders[key] = claim
                loop.call_later(ttl, self._release, key, claim)
        return {key: self._holders[key] for key in claims}

    async def stashed(self) -> AsyncIterator[dict[str, str]]:
        if self._stashed:
            yield self._stashed.copy()

    async def count_stashed(self) -> int:
        return len(self._stashed)

    async def unstash(self, letter_ids: list[str]) -> None:
        for letter_id in letter_ids:
            self._stashed.pop(letter_id, None)

    def _read(self, job_id: str) -> JobRecord:
        fields = self._records.get(job_id, {})
        return JobRecord.from_fields(fields)

    def has_ended(self, job_id: str) -> bool:
        """Return whether a job has ended.

        Args:
            job_id: The job's id.
        """
        record = self._read(job_id)
        return record.state.is_final

    def _release(self, key: str, claim: str) -> None:
        if self._holders.get(key) == claim:
            del self._holders[key]

    def _expire(self, job_id: str, ttl: float | None) -> None:
        if ttl is not None:
            loop = asyncio.get_running_loop()
            loop.call_later(ttl, self._records.pop, job_id, None)


class LocalEngine:
    """See `core.tasks.engine.Engine`.

    Args:
        concurrency: The number of jobs that run at once.
        grace_period: Seconds that running jobs get at the end.
    """

    promises: ClassVar[frozenset[Promise]] = frozenset(
        {Promise.PRIORITIES, Promise.EXACT_DELAYS, Promise.MONGODB_OUTAGE}
    )
    in_process: ClassVar[bool] = True

    def __init__(self, concurrency: int, grace_period: float) -> None:
        self.name = uuid4().hex[:12]
        self.records = MemoryRecords(self.name, self._drop)
        self.stashed = asyncio.Event()
        self.paused = threading.Event()
        self._slots = asyncio.Semaphore(concurrency)
        self._grace_period = grace_period
        self._takes_jobs = False
        # Not a heap, because `browse` reads from any place without looking at the other jobs.
        self._lines = {rank: deque[_Entry]() for rank in sorted(RANKS.values())}
        self._pending = asyncio.Semaphore(0)
        self._scheduled: dict[str, asyncio.TimerHandle] = {}
        self._later: dict[str, _Entry] = {}
        self._taken: dict[str, _Entry] = {}
        self._numbers = count()
        self._known: set[str] = set()
        self._running: set[asyncio.Task[None]] = set()
        self._waiting: dict[str, Envelope] = {}

    @property
    def takes_jobs(self) -> bool:
        return self._takes_jobs

    async def start(self) -> None:
        """Do nothing: there is no connection."""

    async def stop(self) -> None:
        """Forget the scheduled jobs, and log how many jobs are lost."""
        for timer in self._scheduled.values():
            timer.cancel()
        lost = len(self._later) + self._count_pending()
        if lost:
            logger.warning(
                "jobs lost: the local engine keeps them in memory only",
                count=lost,
            )

    async def publish(self, envelopes: Iterable[Envelope]) -> None:
        for envelope in envelopes:
            if envelope.id in self._known or self.records.has_ended(envelope.id):
                continue
            self._known.add(envelope.id)
            self.records.add(envelope.id, envelope.record)
            for job_id, record in envelope.following.items():
                self.records.add(job_id, record)
            delay = 0.0
            if envelope.at is not None:
                delay = envelope.at - time.time()
            self._add(envelope, delay)

    async def stats(self) -> Stats:
        now = time.time()
        oldest = [line[0][1] for line in self._lines.values() if line]
        return Stats(
            pending=self._count_pending(),
            running=len(self._running),
            scheduled=len(self._later),
            oldest=now - min(oldest, default=now),
        )

    def _count_pending(self) -> int:
        return sum(map(len, self._lines.values()))

    async def browse(
        self,
        status: JobStatus,
        after: str | None,
        limit: int,
    ) -> tuple[list[Listed], str | None]:
        place = _parse(after) if after else ()
        entries = list(islice(self._list(status, place, limit + 1), limit + 1))
        page = entries[:limit]
        records = await self.records.read([envelope.id for *_, envelope in page])
        listed = [
            Listed(envelope.id, record, due)
            for (_, due, envelope), record in zip(page, records, strict=True)
            if not record.state.is_final
        ]
        return listed, "{} {}".format(*page[-1][0]) if len(entries) > limit else None

    def _list(
        self,
        status: JobStatus,
        after: _Place | tuple[()],
        limit: int,
    ) -> Iterator[_Entry]:
        """Yield the messages of a status after a place, in their order."""
        if status is JobStatus.PENDING:
            for line in self._lines.values():
                start = bisect_right(line, after, key=itemgetter(0))
                yield from islice(line, start, start + limit)
            return
        entries = self._taken if status is JobStatus.RUNNING else self._later
        found = (entry for entry in entries.values() if entry[0] > after)
        yield from heapq.nsmallest(limit, found, key=itemgetter(0))

    async def check(self) -> Condition:
        return Condition()

    async def consume(self, handler: Handler, stop: asyncio.Event) -> None:
        stopped = asyncio.create_task(stop.wait())
        self._takes_jobs = True
        try:
            while not stop.is_set():
                taking = asyncio.create_task(self._take())
                await asyncio.wait(
                    {taking, stopped},
                    return_when=asyncio.FIRST_COMPLETED,
                )
                if not taking.done():
                    taking.cancel()
                    break
                running = asyncio.create_task(self._run(handler, taking.result()))
                self._running.add(running)
                running.add_done_callback(self._running.discard)
        finally:
            self._takes_jobs = False
            stopped.cancel()
            await finish_jobs(self._running, self._grace_period)

    def _add(self, envelope: Envelope, delay: float) -> None:
        if delay <= 0:
            self._add_pending(envelope)
            return
        loop = asyncio.get_running_loop()
        timer = loop.call_later(delay, self._add_pending, envelope)
        self._scheduled[envelope.id] = timer
        self._note_later(envelope, delay)

    def _note_later(self, envelope: Envelope, delay: float) -> None:
        due = time.time() + delay
        self._later[envelope.id] = ((due, envelope.id), due, envelope)

    def _add_pending(self, envelope: Envelope) -> None:
        self._scheduled.pop(envelope.id, None)
        self._later.pop(envelope.id, None)
        rank = RANKS[envelope.priority]
        number = f"{next(self._numbers):020}"  # texts in the order of their numbers
        self._lines[rank].append(((rank, number), time.time(), envelope))
        self._pending.release()

    async def _take(self) -> _Entry:
        """Wait for a free slot, and return the next message."""
        await self._slots.acquire()
        try:
            await self._pending.acquire()
            while not self._count_pending():  # an aborted job has left its line
                await self._pending.acquire()
        except asyncio.CancelledError:
            self._slots.release()
            raise
        return next(line for line in self._lines.values() if line).popleft()

    def _drop(self, job_id: str) -> None:
        """Forget an aborted job. A stage keeps its message, because this names the later stages."""
        *_, envelope = self._later.pop(job_id, (None,))
        if envelope:
            self._waiting.pop(job_id, None)
            timer = self._scheduled.pop(job_id, None)
            if timer:
                timer.cancel()
        if STAGE.fullmatch(job_id):
            if envelope:
                self._add_pending(envelope)
            return
        for line in self._lines.values():
            for entry in [entry for entry in line if entry[-1].id == job_id]:
                line.remove(entry)
        self._known.discard(job_id)
        self._pass_on(job_id)

    async def _run(self, handler: Handler, entry: _Entry) -> None:
        *_, envelope = entry
        self._taken[envelope.id] = entry
        try:
            delivery = await self._deliver(envelope)
            outcome = await handler.execute(delivery)
        finally:
            self._slots.release()
            del self._taken[envelope.id]
        await self._settle(envelope, delivery, outcome)

    async def _settle(self, envelope: Envelope, delivery: Delivery, outcome: Outcome) -> None:
        job_id, fence = delivery.id, delivery.record.fence
        (record,) = await self.records.read([job_id])
        if record.fence != fence:
            logger.warning("another worker has taken the job over", job_id=job_id)
            return
        if isinstance(outcome, Retry):
            if outcome.fields:
                await self.records.write(job_id, outcome.fields, None, fence)
            if outcome.waits:
                self._waiting[job_id] = envelope
                self._note_later(envelope, outcome.after)
                self._start_waiting([envelope])  # a slot may have become free since it asked
                return
            self._add(envelope, outcome.after)
        else:
            await self._end(job_id, fence, outcome)
        self._pass_on(job_id)
        outcome.note()

    def _pass_on(self, job_id: str) -> None:
        """Give the slots of a job to the jobs that wait for them."""
        if self.records.give_back(job_id):
            waiting = self._waiting.values()
            self._start_waiting(sorted(waiting, key=lambda each: RANKS[each.priority]))

    def _start_waiting(self, envelopes: Iterable[Envelope]) -> None:
        """Start each of these jobs that gets its slots. An aborted job needs no slot."""
        for envelope in envelopes:
            if self.records.has_ended(envelope.id) or self.records.hold(envelope.id):
                del self._waiting[envelope.id]
                self._add_pending(envelope)

    async def _end(self, job_id: str, fence: int, outcome: Ended) -> None:
        self._known.discard(job_id)
        if outcome.fields:
            letter = outcome.dead_letter
            await self.records.write(job_id, outcome.fields, outcome.ttl, fence, letter)
        if outcome.dead_letter:
            self.stashed.set()
        if outcome.next_stage:
            await self._publish_next(outcome.next_stage)
        for stage_id, fields in outcome.stopped.items():
            await self.records.write(stage_id, fields, outcome.ttl)

    async def _publish_next(self, envelope: Envelope) -> None:
        (record,) = await self.records.read([envelope.id])
        # A stage that was aborted before its turn gets its message, because the message names the
        # stages after it, which do not run either.
        if record.state is JobStatus.ABORTED and envelope.id not in self._known:
            self._known.add(envelope.id)
            self._add_pending(envelope)
        else:
            await self.publish([envelope])

    async def _deliver(self, envelope: Envelope) -> Delivery:
        (record,) = await self.records.read([envelope.id])
        is_suspect = record.deliveries >= SUSPECT_DELIVERIES or record.blocked > 0
        if record.state.is_final or is_suspect:
            return Delivery(envelope.id, envelope.body, record, False, is_suspect)
        record = await self.records.begin(envelope.id)
        return Delivery(envelope.id, envelope.body, record)


def _parse(position: str) -> _Place:
    number, _, name = position.partition(" ")
    try:
        return float(number), name
    except ValueError:
        raise BadPosition from None


def build(settings: Settings) -> LocalEngine:
    """Build the engine that the settings describe.

    Args:
        settings: The service's settings.
    """
    return LocalEngine(settings.task_concurrency, settings.task_grace_period)

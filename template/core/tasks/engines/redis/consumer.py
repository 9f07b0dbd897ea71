"""The consumer: it takes messages, runs them, and settles how each run ended."""

import asyncio
import json
import threading
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from math import inf
from typing import Any

from core.cancelling import cancel_all
from core.logging import get_logger
from core.tasks.engine import RANKS, SUSPECT_DELIVERIES, Delivery, Handler
from core.tasks.engines.redis.client import GROUP, OPERATION_SECONDS, Client, Word, split
from core.tasks.engines.redis.records import load, milliseconds
from core.tasks.outcome import Ended, Outcome, note_end
from core.tasks.queue_server import RETRY_SECONDS, Calls
from core.tasks.records import JobRecord, RecordFields, dump_rest, merge
from core.tasks.upkeep import finish_jobs

logger = get_logger(__name__)

IDLE_SECONDS = 20.0
"""After this time without a sign of life, other workers take the jobs of a worker."""
BEAT_SECONDS = 5.0
"""The pause between two signs of life."""
MOVE_SECONDS = 0.5
"""The pause between two searches for scheduled jobs that are due."""
RECOVER_SECONDS = 2.0
"""The pause between two searches for the jobs of dead workers."""
LEAVE_SECONDS = 60.0
"""The pause between two removals of the consumers of dead workers."""
FORGET_SECONDS = 3600.0
"""After this time without a sign of life, the consumer of a worker without jobs is removed."""
WAIT_SECONDS = 2.0
"""The longest wait for new messages. If the server has lost its data, the position after which this
worker waits is wrong."""
LAST_TRIES = 10
"""A worker that stops gives up settling its runs after this many failures in a row."""
TAKE_BATCH = 100
"""The largest number of messages that one call takes. A message may be a megabyte long."""
MOVE_BATCH = 200
"""The largest number of messages that one script moves, so that it blocks the server briefly."""
MAX_UNSETTLED = 1000
"""A worker with more unsettled runs than this takes no further message."""

NO_RECORD = JobRecord()


@dataclass(slots=True, eq=False)
class _Run:
    """A message that this worker was given, until the server knows how its run ended.

    Attributes:
        rank: The rank of the message's priority.
        entry: The message's entry in the stream of that priority.
        job_id: The job's id as the server has it. A forged id may be invalid UTF-8.
        delivery: The message.
        outcome: How the run ended; None while it runs.
        words: The outcome in the words of the script `end`.
    """

    rank: int
    entry: bytes
    job_id: bytes
    delivery: Delivery
    outcome: Outcome | None = None
    words: list[Word] = field(default_factory=list)


class Consumer:
    """Takes and runs messages.

    Args:
        client: The client of the server.
        name: The name of this worker, unique among all workers.
        handler: Runs the messages.
        concurrency: The number of messages that run at once.
        grace_period: Seconds that running messages get at the end.
        stashed: Set when a run left a dead letter.
        paused: While it is set, no message is taken.
    """

    def __init__(
        self,
        client: Client,
        name: str,
        handler: Handler,
        concurrency: int,
        grace_period: float,
        stashed: asyncio.Event,
        paused: threading.Event,
    ) -> None:
        self._client = client
        self._name = name
        self._handler = handler
        self._concurrency = concurrency
        # With half of the slots, the worker runs messages while it waits for further ones.
        self._take_limit = min((concurrency + 1) // 2, TAKE_BATCH)
        self._grace_period = grace_period
        self._stashed = stashed
        self._paused = paused
        self._stopped: asyncio.Task[object] | None = None
        self._runs: set[_Run] = set()
        self._running: set[asyncio.Task[None]] = set()
        self._ended: list[_Run] = []
        self._has_ended = asyncio.Event()
        self._has_free_slot = asyncio.Event()
        self._calls = Calls("queue is down, trying again")
        self._takes = False
        self._may_have_lost = False

    @property
    def takes_jobs(self) -> bool:
        """Whether it takes messages. During an outage it takes no message."""
        return self._takes

    async def run(self, stop: asyncio.Event) -> None:
        """Take and run messages until an event is set, then wait for the running ones.

        An unexpected error of this class stops it in the same way, and is then raised.

        Args:
            stop: The event.
        """
        works = [
            self._calls.repeat(self._beat, BEAT_SECONDS),
            self._calls.repeat(self._move_due, MOVE_SECONDS),
            self._calls.repeat(self._recover, RECOVER_SECONDS),
            self._calls.repeat(self._remove_dead, LEAVE_SECONDS),
        ]
        await self._calls.make(self._create_groups)
        settling = asyncio.create_task(self._settle_all())
        helpers = [settling, *(asyncio.create_task(work) for work in works)]
        ends = [asyncio.create_task(stop.wait()), *helpers]
        waiting = asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)
        self._stopped = asyncio.create_task(waiting)
        self._stopped.add_done_callback(lambda _: self._has_free_slot.set())
        try:
            while not self._stopped.done():
                await self._take_more()
            self._takes = False
            await self._calls.make(self._give_back)
            await finish_jobs(self._running, self._grace_period)
            await cancel_all([settling])
            await self._settle_ended(LAST_TRIES)
            await self._calls.make(self._leave)
        finally:
            await cancel_all([self._stopped, *ends])
        errors = [helper.exception() for helper in helpers if not helper.cancelled()]
        for error in filter(None, errors):
            raise error

    async def _create_groups(self) -> None:
        await self._client.run("create", GROUP)

    async def _take_more(self) -> None:
        """Take messages, or wait for messages, for a free slot, or for the end of an outage."""
        if self._count_free() <= 0:
            self._has_free_slot.clear()
            with suppress(TimeoutError):  # no event says that a suspect's time alone is over
                async with asyncio.timeout(RETRY_SECONDS):
                    await self._has_free_slot.wait()
            return
        self._takes = await self._calls.make(self._take)
        if not self._takes:
            self._may_have_lost = True
            await asyncio.sleep(RETRY_SECONDS)
            await self._calls.make(self._create_groups)

    def _count_free(self) -> int:
        if self._paused.is_set() or not self._handler.may_begin():
            return 0
        if len(self._ended) > MAX_UNSETTLED:
            return 0
        return min(self._concurrency - len(self._running), self._take_limit)

    async def _take(self) -> None:
        # The lost reply may have been too long to arrive in time, so take one message only.
        count = 1 if self._may_have_lost else self._count_free()
        if self._may_have_lost:
            await self._give_back()
            self._may_have_lost = False
        words = (GROUP, self._name, count, SUSPECT_DELIVERIES)
        taken, positions = await self._client.run("take", *words)
        assert self._stopped
        if self._stopped.done():
            return  # `run` gives the messages back
        self._takes = True  # now, because the wait for messages may be long
        for each in taken:
            self._start(*each)
        # Let the runs begin. If one is a suspect, `may_begin` then returns False.
        await asyncio.sleep(0)
        if not taken:
            await self._wait_for_messages(positions)

    def _start(
        self,
        rank: int,
        entry: bytes,
        job_id: bytes,
        body: bytes,
        beginning: bytes,
        record: bytes | None,
    ) -> None:
        if not job_id:
            logger.error("message without an id, removed from the queue", body=str(body)[:200])
            return
        if beginning == b"runs":
            # The job's message came back, for example after this worker had seemed dead.
            for run in self._runs:
                if run.job_id == job_id:
                    run.rank, run.entry = rank, entry
                    run.words[:2] = [rank, entry] if run.words else []
                    return
        name = job_id.decode(errors="replace")
        is_begun = beginning == b"begun"
        # If the record says that this worker runs the job, and it does not, the executor begins
        # the delivery, as it does for a suspect.
        is_suspect = beginning in (b"suspect", b"runs")
        delivery = Delivery(name, body, load(name, record), is_begun, is_suspect)
        run = _Run(rank, entry, job_id, delivery)
        self._runs.add(run)
        task = asyncio.create_task(self._execute(run))
        self._running.add(task)
        task.add_done_callback(self._note_end)

    async def _execute(self, run: _Run) -> None:
        run.outcome = await self._handler.execute(run.delivery)
        try:
            run.words = _flatten(run, run.outcome)
        except Exception:
            # The entry gets no further sign of life, so the message comes back later.
            logger.exception("outcome cannot be recorded", job_id=run.delivery.id)
            self._runs.discard(run)
            return
        self._ended.append(run)
        self._has_ended.set()

    def _note_end(self, task: asyncio.Task[None]) -> None:
        self._running.discard(task)
        self._has_free_slot.set()

    async def _wait_for_messages(self, positions: list[bytes]) -> None:
        """Wait until a stream has a message that no worker was given. This takes no message."""
        assert self._stopped
        waiting = asyncio.create_task(self._wait_after(positions))
        await asyncio.wait([waiting, self._stopped], return_when=asyncio.FIRST_COMPLETED)
        if waiting.done():
            waiting.result()  # raises the error of an outage
        else:
            await cancel_all([waiting])

    async def _wait_after(self, positions: list[bytes]) -> None:
        places: dict[Any, Any] = dict(zip(self._client.streams, positions, strict=True))
        async with self._client.open(OPERATION_SECONDS + WAIT_SECONDS) as redis:
            await redis.xread(places, count=1, block=milliseconds(WAIT_SECONDS))

    async def _settle_all(self) -> None:
        """Tell the server how runs ended. During an outage they wait."""
        while True:
            await self._has_ended.wait()
            self._has_ended.clear()
            await self._settle_ended(inf)

    async def _settle_ended(self, tries: float) -> None:
        """Settle the runs that have ended, or give up after this many failures in a row."""
        failures = 0
        while self._ended and failures < tries:
            # The last batch may have been too long to arrive in time.
            if await self._calls.make(partial(self._settle_some, 1 if failures else None)):
                failures = 0
            else:
                failures += 1
                await asyncio.sleep(RETRY_SECONDS)

    async def _settle_some(self, limit: int | None) -> None:
        batch = next(split(run.words for run in self._ended[:limit]))
        words = [word for row in batch for word in row]
        settled: list[int] = await self._client.run("end", GROUP, *words)
        runs, self._ended = self._ended[: len(batch)], self._ended[len(batch) :]
        self._runs.difference_update(runs)
        self._has_free_slot.set()
        for run, is_settled in zip(runs, settled, strict=True):
            if is_settled and run.outcome:
                note_end(run.outcome, self._stashed)
            else:
                job_id = run.delivery.id
                logger.warning("another worker has taken the job over", job_id=job_id)

    async def _beat(self) -> None:
        """Show that the running jobs are alive. An entry never changes its owner."""
        for stream, rank in zip(self._client.streams, RANKS.values(), strict=True):
            runs = [run for run in self._runs if run.rank == rank]
            for batch in split([run.entry] for run in runs):
                entries: list[Any] = [entry for (entry,) in batch]
                async with self._client.open() as redis:
                    await redis.xclaim(stream, GROUP, self._name, 0, entries, justid=True)

    async def _move_due(self) -> None:
        while await self._client.run("due", MOVE_BATCH):
            pass  # the server can answer other calls in between

    async def _recover(self) -> None:
        words = (GROUP, milliseconds(IDLE_SECONDS), MOVE_BATCH, milliseconds(BEAT_SECONDS))
        while await self._client.run("recover", *words):
            pass

    async def _give_back(self) -> None:
        """Put back the messages that this worker was given in a reply that it did not get."""
        entries = [b"%d:%b" % (run.rank, run.entry) for run in self._runs]
        jobs = [run.job_id for run in self._runs]
        limit = len(entries) + MOVE_BATCH
        words: list[Word] = [GROUP, 0, limit, 0, self._name, *entries, *jobs]
        while await self._client.run("recover", *words):
            pass

    async def _leave(self) -> None:
        await self._client.run("leave", GROUP, self._name, milliseconds(FORGET_SECONDS))

    async def _remove_dead(self) -> None:
        await self._client.run("leave", GROUP, "", milliseconds(FORGET_SECONDS))


def _flatten(run: _Run, outcome: Outcome) -> list[Word]:
    """Return an outcome in the words of the script `end`."""
    record = run.delivery.record
    words: list[Word] = [run.rank, run.entry, run.job_id, record.fence]
    words += _flatten_fields(outcome.fields, record)
    if not isinstance(outcome, Ended):
        return [*words, 0, milliseconds(outcome.after), "", "", int(outcome.waits)]
    letter = outcome.dead_letter
    words += (milliseconds(outcome.ttl), "")
    words += (letter["id"], json.dumps(letter), 0) if letter else ("", "", 0)
    stage = outcome.next_stage
    if stage:
        words += (RANKS[stage.priority], "", stage.id, "+")
        words += (*_flatten_fields(stage.record, NO_RECORD), 0, "", "", stage.body, 0)
    for job_id, fields in outcome.stopped.items():
        words += (0, "", job_id, "+")
        words += (*_flatten_fields(fields, NO_RECORD), milliseconds(outcome.ttl), "", "", "", 0)
    return words


def _flatten_fields(fields: RecordFields, record: JobRecord) -> tuple[Word, ...]:
    if not fields:
        return ("", "", "", "")
    counts = (fields.get("deliveries", ""), fields.get("blocked", ""))
    return (fields["state"], *counts, dump_rest(merge(record, fields)))

"""The engine for Celery, streaq and arq: MongoDB keeps the jobs, a broker delivers their ids."""

import asyncio
import threading
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import replace
from itertools import islice
from typing import ClassVar
from uuid import uuid4

from core.cancelling import cancel_all
from core.config import Settings
from core.logging import get_logger
from core.tasks.broker.batches import Batches
from core.tasks.broker.broker import STORE_PROMISES, Broker, Ticket
from core.tasks.broker.documents import encodable
from core.tasks.broker.records import StoredRecords
from core.tasks.broker.slots import SlotStore
from core.tasks.broker.store import Run, Store
from core.tasks.engine import Condition, Handler, Listed, Promise, Stats
from core.tasks.errors import QueueUnavailable
from core.tasks.outcome import Envelope, Outcome, Retry, note_end
from core.tasks.queue_server import RETRY_SECONDS, Calls
from core.tasks.records import JobStatus
from core.tasks.upkeep import finish_jobs

logger = get_logger(__name__)

ADD_BATCH = 2000
MOVE_BATCH = 200
GATHER_SECONDS = 0.01
"""How long tickets or ended jobs of a busy worker gather before one call handles all of them."""
BEAT_SECONDS = 5.0
"""The pause between two renewals of the leases of running jobs."""
MOVE_SECONDS = 0.5
"""The pause between two searches for scheduled jobs that are due."""
RECOVER_SECONDS = 2.0
"""The pause between two searches for the jobs of dead workers."""
RESEND_SECONDS = 5.0
"""The pause between two searches for jobs whose tickets were lost."""
INDEX_SECONDS = 3600.0
"""The pause between two checks that the indexes exist."""
LAST_TRIES = 10
"""A worker that stops gives up settling a run after this many failures."""


class BrokerEngine:
    """See `core.tasks.engine.Engine`.

    Args:
        settings: The service's settings.
        make_broker: Makes the broker. It is called in a thread when the broker is first needed,
            because the import of a queue system takes long, and most commands do not need it.
        has_priorities: Whether the broker delivers tickets of a higher priority first.

    Attributes:
        is_hosted: Whether the broker's own command has started this process. `consume` then starts
            no worker of the broker.
    """

    in_process: ClassVar[bool] = False

    def __init__(
        self,
        settings: Settings,
        make_broker: Callable[[], Broker],
        has_priorities: bool,
    ) -> None:
        self.name = uuid4().hex[:12]
        self.promises = STORE_PROMISES
        if has_priorities:
            self.promises |= {Promise.PRIORITIES}
        self.stashed = asyncio.Event()
        self.paused = threading.Event()
        self.is_hosted = False
        self._make_broker = make_broker
        self._broker: Broker | None = None
        self._making = asyncio.Lock()
        self._grace_period = settings.task_grace_period
        self._store = Store(settings.mongodb_database, self.name)
        self._slots = SlotStore(self._store)
        self._runs: dict[str, Run] = {}
        self.records = StoredRecords(
            self._store, self._slots, self._runs, self._send, settings, self.name
        )
        self._additions = Batches(self._add)
        self._beginnings = Batches(self._begin, GATHER_SECONDS)
        self._endings = Batches(self._store.settle, GATHER_SECONDS)
        self._handler: Handler | None = None
        self._running: set[asyncio.Task[None]] = set()
        self._calls = Calls("queue is down, trying again")
        self._broker_calls = Calls("broker is down, jobs wait in MongoDB")

    @property
    def takes_jobs(self) -> bool:
        return self._handler is not None and not (self._calls.problem or self._broker_calls.problem)

    async def start(self) -> None:
        """Do nothing: each connection is made when it is needed."""

    async def stop(self) -> None:
        if self._broker:
            await self._broker.close()

    async def _open_broker(self) -> Broker:
        async with self._making:
            if self._broker is None:
                self._broker = await asyncio.to_thread(self._make_broker)
            return self._broker

    async def publish(self, envelopes: Iterable[Envelope]) -> None:
        rest = iter(envelopes)
        while batch := list(islice(rest, ADD_BATCH)):
            await self._additions.run(batch)

    async def _add(self, batches: list[list[Envelope]]) -> list[None]:
        envelopes = [envelope for batch in batches for envelope in batch]
        await self._send(await self._store.add(envelopes))
        return [None] * len(batches)

    async def _send(self, tickets: Sequence[Ticket]) -> None:
        """Send tickets. If the broker is down, `_resend` sends them after the outage."""

        async def send() -> None:
            broker = await self._open_broker()
            await broker.send(tickets)

        if tickets:
            await self._broker_calls.make(send)

    async def stats(self) -> Stats:
        return await self._store.stats()

    async def browse(
        self,
        status: JobStatus,
        after: str | None,
        limit: int,
    ) -> tuple[list[Listed], str | None]:
        return await self._store.browse(status, after, limit)

    async def check(self) -> Condition:
        await self._store.ping()
        broker = await self._open_broker()
        condition = await broker.check()
        return replace(condition, persists=True)  # a ticket that the broker loses is sent again

    async def consume(self, handler: Handler, stop: asyncio.Event) -> None:
        works = [
            self._calls.repeat(self._store.collections.make_indexes, INDEX_SECONDS),
            self._calls.repeat(self._renew, BEAT_SECONDS),
            self._calls.repeat(self._move_due, MOVE_SECONDS),
            self._calls.repeat(self._recover, RECOVER_SECONDS),
            self._broker_calls.repeat(self._resend, RESEND_SECONDS),
        ]
        helpers = [asyncio.create_task(work) for work in works]
        self._handler = handler
        try:
            if self.is_hosted:
                await stop.wait()
            else:
                broker = await self._open_broker()
                await broker.consume(handler.task_names, self.deliver, stop)
            self._handler = None
            await finish_jobs(self._running, self._grace_period)
        finally:
            self._handler = None
            await cancel_all(helpers)

    async def deliver(self, job_id: str) -> bool:
        """Run the job of a ticket; see `core.tasks.broker.broker.RunJob`.

        Args:
            job_id: The job's id.
        """
        handler = self._handler
        if handler is None or self.paused.is_set() or not handler.may_begin():
            return False
        # Anybody who reaches the broker may have written the ticket.
        (name,) = encodable([str(job_id)])
        running = asyncio.create_task(self._run(name, handler))
        self._running.add(running)
        running.add_done_callback(self._running.discard)
        try:
            await asyncio.shield(running)
        except QueueUnavailable:
            return False
        except asyncio.CancelledError:
            running.cancel()
            await asyncio.wait([running])
            raise
        return True

    async def _run(self, job_id: str, handler: Handler) -> None:
        run = await self._begin_one(job_id)
        if run is None:
            return
        # A job's next delivery may begin before this process has noted the end of the last one.
        while former := self._runs.get(job_id):
            if former.delivery.record.fence == run.delivery.record.fence:
                return  # two tickets of a suspect, or MongoDB has lost that the job had begun
            await former.is_over.wait()
        self._runs[job_id] = run
        try:
            run.outcome = await handler.execute(run.delivery)
            settling = asyncio.create_task(self._settle(run, run.outcome))
            try:
                await asyncio.shield(settling)
            except asyncio.CancelledError:
                await settling
                raise
        finally:
            del self._runs[job_id]
            run.is_over.set()

    async def _begin_one(self, job_id: str) -> Run | None:
        """Begin the delivery of a job. If this is cancelled, put the job back."""
        beginning = asyncio.create_task(self._beginnings.run(job_id))
        try:
            return await asyncio.shield(beginning)
        except asyncio.CancelledError:
            run = await beginning
            if run and run.delivery.is_begun:
                deliveries = run.delivery.record.deliveries - 1
                run.outcome = Retry(0, {"state": JobStatus.PENDING, "deliveries": deliveries})
                await self._settle(run, run.outcome)
            raise

    async def _begin(self, ids: list[str]) -> list[Run | None]:
        found = await self._store.begin(ids)
        return [found.pop(job_id, None) for job_id in ids]  # two tickets may name one job

    async def _settle(self, run: Run, outcome: Outcome) -> None:
        """Record how a run ended. During an outage, keep trying."""
        failures = 0
        while True:
            try:
                is_settled = await self._endings.run(run)
                break
            except QueueUnavailable as error:
                failures += 1
                self._calls.note(error)
            if self._handler is None and failures >= LAST_TRIES:
                return  # its lease ends, and the job runs again
            await asyncio.sleep(RETRY_SECONDS)
        job_id = run.delivery.id
        if not is_settled:
            logger.warning("another worker has taken the job over", job_id=job_id)
            return
        note_end(outcome, self.stashed)
        tickets = [*run.list_tickets()]
        with suppress(QueueUnavailable):  # a later job finds the slots that were not given back
            tickets += await self._pass_on(run)
        await self._send(tickets)

    async def _pass_on(self, run: Run) -> list[Ticket]:
        """Give the slots of a run to the jobs that wait for them, and return their tickets."""
        # If it had no slot, one may have become free since it asked.
        fence = run.delivery.record.fence
        return await self._slots.give_back(run.delivery.id, fence, run.keys)

    async def _renew(self) -> None:
        if self._runs:
            await self._store.renew([*self._runs])

    async def _move_due(self) -> None:
        while tickets := await self._store.take_due(MOVE_BATCH):
            await self._send(tickets)

    async def _recover(self) -> None:
        while tickets := await self._store.take_unanswered(MOVE_BATCH):
            await self._send(tickets)
        while tickets := await self._store.take_abandoned(MOVE_BATCH):
            await self._send(tickets)

    async def _resend(self) -> None:
        """Send new tickets for the jobs whose tickets the broker has lost or could not take."""
        broker = await self._open_broker()
        known = await broker.count()
        await self._send(await self._store.take_lost(known, ADD_BATCH))

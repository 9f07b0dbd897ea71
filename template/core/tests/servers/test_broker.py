"""The jobs that another system carries: their engine and their store."""

import asyncio
import random
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

import pymongo

from core.cancelling import cancel_all
from core.config import Settings
from core.tasks import JobStatus, QueueUnavailable, queue_server
from core.tasks.broker import engine as broker_engine
from core.tasks.broker.batches import Batches
from core.tasks.broker.broker import RunJob, Ticket
from core.tasks.broker.documents import Place, load_record
from core.tasks.broker.engine import BrokerEngine
from core.tasks.broker.slots import SlotStore
from core.tasks.broker.store import Run, Store
from core.tasks.engine import Condition, Delivery
from core.tasks.outcome import Ended, Envelope, Outcome, Retry
from core.testing import eventually
from core.tests.running import WAIT


def make_envelope(job_id: str = "job", at: float | None = None) -> Envelope:
    """Return a job."""
    return Envelope(job_id, b"body", {"state": JobStatus.PENDING, "task": "work"}, at)


class EagerBroker:
    """Delivers each ticket before the call that sends it has returned."""

    def __init__(self) -> None:
        self.run: RunJob | None = None
        self._runs: set[asyncio.Task[bool]] = set()

    async def close(self) -> None:
        await cancel_all(self._runs)

    async def send(self, tickets: Sequence[Ticket]) -> None:
        assert self.run
        self._runs |= {asyncio.ensure_future(self.run(ticket.job_id)) for ticket in tickets}
        await asyncio.sleep(0.2)

    async def count(self) -> int:
        return 0

    async def check(self) -> Condition:
        return Condition()

    async def consume(self, tasks: Sequence[str], run: RunJob, stop: asyncio.Event) -> None:
        self.run = run
        await stop.wait()


@asynccontextmanager
async def consuming(
    settings: Settings, broker: EagerBroker, handler: "Repeater"
) -> AsyncIterator[BrokerEngine]:
    """Run an engine in this process for a block."""
    stop = asyncio.Event()
    engine = BrokerEngine(settings, lambda: broker, has_priorities=False)
    task = asyncio.create_task(engine.consume(handler, stop))
    await eventually(lambda: broker.run)
    yield engine
    stop.set()
    async with asyncio.timeout(WAIT):
        await task
    await engine.stop()


class Repeater:
    """Runs each job twice."""

    def __init__(self) -> None:
        self.task_names = ["work"]
        self.deliveries: list[int] = []

    def may_begin(self) -> bool:
        return True

    async def execute(self, delivery: Delivery) -> Outcome:
        self.deliveries.append(delivery.record.deliveries)
        if len(self.deliveries) == 1:
            return Retry(0)
        return Ended({"state": JobStatus.COMPLETED, "result": 1}, 60)


async def test_the_next_delivery_begins_before_the_end_of_the_last_is_noted(db, settings):
    handler = Repeater()
    async with consuming(settings, EagerBroker(), handler) as engine:
        await engine.publish([make_envelope()])
        await eventually(lambda: handler.deliveries == [1, 2])


async def test_an_outage_of_the_broker_is_logged_once(db, settings, monkeypatch, caplog):
    monkeypatch.setattr(queue_server, "RETRY_SECONDS", 0.05)
    broker = EagerBroker()
    calls: list[int] = []

    async def count() -> int:
        calls.append(len(calls))
        if len(calls) < 20:
            raise QueueUnavailable("the broker is down")
        return 0

    monkeypatch.setattr(broker, "count", count)
    async with consuming(settings, broker, Repeater()) as engine:
        await eventually(lambda: len(calls) > 10)
        assert not engine.takes_jobs
        await eventually(lambda: engine.takes_jobs)
    assert caplog.text.count("broker is down, jobs wait") == 1


async def test_a_run_of_another_worker_with_the_same_fence_settles_nothing(db):
    """A crash of MongoDB may lose the beginning of a delivery. Another worker then begins it."""
    store = Store(db.name, "first")
    await store.add([make_envelope()])
    run = (await store.begin(["job"]))["job"]
    run.outcome = Ended({"state": JobStatus.COMPLETED, "result": 1}, 60)
    jobs = store.collections.jobs
    await jobs.update_one({"_id": "job"}, {"$set": {"worker": "second"}})
    assert await store.settle([run]) == [False]
    await jobs.update_one({"_id": "job"}, {"$set": {"worker": "first"}})
    assert await store.settle([run]) == [True]
    assert await store.settle([run]) == [True]  # the first answer was lost


async def test_large_results_are_recorded_although_they_end_together(db):
    """MongoDB takes at most 16 MiB in one write."""
    store = Store(db.name, "first")
    ids = [f"job-{number}" for number in range(20)]
    await store.add([make_envelope(job_id) for job_id in ids])
    runs = await store.begin(ids)
    for job_id, run in runs.items():
        result = job_id.ljust(1024**2)
        run.outcome = Ended({"state": JobStatus.COMPLETED, "result": result}, 60)
    assert await store.settle([*runs.values()]) == [True] * len(ids)
    async for document in store.collections.jobs.find():
        assert load_record(document).result.strip() == document["_id"]


async def test_a_suspect_that_was_aborted_before_it_began_is_not_put_back(db):
    """It has no message, so each delivery of it would fail, with all jobs of its batch."""
    store = Store(db.name, "first")
    await store.add([make_envelope()])
    jobs = store.collections.jobs
    await jobs.update_one({"_id": "job"}, {"$set": {"blocked": 1}})
    run = (await store.begin(["job"]))["job"]
    await store.abort("job", 60)
    run.outcome = Retry(1)
    assert await store.settle([run]) == [False]
    assert await jobs.count_documents({"place": Place.ENDED}) == 1


async def test_a_job_that_two_callers_add_at_once_gets_a_ticket(db):
    store = Store(db.name, "first")
    (ticket,) = await store.add([make_envelope(), make_envelope()])
    assert ticket.job_id == "job"
    assert await store.add([make_envelope()]) == []


async def test_jobs_that_are_due_together_get_tickets_in_the_order_of_their_times(db):
    store = Store(db.name, "first")
    ids = [str(number) for number in range(12)]
    random.shuffle(ids)
    past = time.time() - len(ids)
    await store.add([make_envelope(job_id, past + number) for number, job_id in enumerate(ids)])
    assert [ticket.job_id for ticket in await store.take_due(100)] == ids


async def test_a_lost_ticket_is_sent_again_although_a_clock_was_wrong(db, monkeypatch):
    store = Store(db.name, "first")
    now = time.time()
    with monkeypatch.context() as patches:
        patches.setattr(time, "time", lambda: now + 3600)
        await store.add([make_envelope()])
    (ticket,) = await store.take_lost(0, 10)
    assert ticket.job_id == "job"
    assert await store.take_lost(0, 10) == []


async def test_a_worker_stops_although_the_end_of_a_job_was_not_recorded(db, settings, monkeypatch):
    """The outage may have begun long before the worker was asked to stop."""
    failures = []

    async def fail(store: Store, runs: Sequence[object]) -> list[bool]:
        failures.append(runs)
        raise QueueUnavailable("MongoDB is down")

    monkeypatch.setattr(Store, "settle", fail)
    monkeypatch.setattr(broker_engine, "RETRY_SECONDS", 0.01)
    settings.task_grace_period = 0.0
    async with consuming(settings, EagerBroker(), Repeater()) as engine:
        await engine.publish([make_envelope()])
        await eventually(lambda: len(failures) > broker_engine.LAST_TRIES)


async def test_two_tickets_of_a_job_at_once_lose_no_delivery(db, settings, monkeypatch):
    """The second one may begin the job again before the end of the first run has been noted."""
    begin, called = Store.begin, asyncio.Event()

    async def begin_late(store: Store, ids: Sequence[str]) -> dict[str, Run]:
        called.set()
        await asyncio.sleep(0.1)
        return await begin(store, ids)

    async def send(tickets: Sequence[Ticket]) -> None:
        await asyncio.sleep(0.3)  # these tickets come later

    monkeypatch.setattr(Store, "begin", begin_late)
    broker, handler = EagerBroker(), Repeater()
    monkeypatch.setattr(broker, "send", send)
    async with consuming(settings, broker, handler) as engine:
        await Store(db.name, "web").add([make_envelope()])
        first = asyncio.create_task(engine.deliver("job"))
        await called.wait()
        await asyncio.gather(first, engine.deliver("job"))
        assert handler.deliveries == [1, 2]


async def test_a_worker_that_stops_puts_a_job_back_that_is_just_beginning(
    db, settings, monkeypatch
):
    begin, began = Store.begin, asyncio.Event()

    async def begin_slowly(store: Store, ids: Sequence[str]) -> dict[str, Run]:
        runs = await begin(store, ids)
        began.set()
        await asyncio.sleep(0.5)
        return runs

    monkeypatch.setattr(Store, "begin", begin_slowly)
    settings.task_grace_period = 0.0
    store, handler = Store(db.name, "web"), Repeater()
    async with consuming(settings, EagerBroker(), handler) as engine:
        await store.add([make_envelope()])
        delivering = asyncio.create_task(engine.deliver("job"))
        await began.wait()
    await asyncio.wait([delivering])
    job = await store.collections.jobs.find_one({"_id": "job"})
    assert job
    assert (job["place"], job["deliveries"]) == (Place.DUE, 0)
    assert handler.deliveries == []


async def test_the_deadline_of_a_caller_does_not_hold_for_others(db):
    async def ping(items: list[int]) -> list[int]:
        await asyncio.sleep(0.1)
        await db.command("ping")
        return items

    batches = Batches(ping)
    with pymongo.timeout(0.15):
        first = asyncio.create_task(batches.run(1))
        await asyncio.sleep(0.01)
    assert await batches.run(2) == 2
    assert await first == 1


async def test_a_job_that_waits_for_its_next_attempt_holds_no_slot(db):
    """Its worker may have died before it gave the slot back."""
    store = Store(db.name, "first")
    slots = SlotStore(store)
    await store.add([make_envelope("a"), make_envelope("b")])
    runs = await store.begin(["a", "b"])
    assert await slots.acquire("a", 1, {"key": 1}) is None
    assert await slots.acquire("b", 1, {"key": 1}) == "key"
    runs["a"].outcome = Retry(3600, {"state": JobStatus.PENDING, "deliveries": 0})
    assert await store.settle([runs["a"]]) == [True]
    assert await slots.acquire("b", 1, {"key": 1}) is None


async def test_a_slot_that_was_given_too_late_keeps_nobody_out(db):
    """A job finds no free slot and waits. Only then does another process give a slot to its run."""
    store = Store(db.name, "first")
    slots = SlotStore(store)
    await store.add([make_envelope(name) for name in ("old", "late", "runs")])
    runs = await store.begin(["old", "late", "runs"])
    assert await slots.acquire("runs", 1, {"key": 1}) is None
    for name in ("old", "late"):
        assert await slots.acquire(name, 1, {"key": 1}) == "key"
        runs[name].missing = "key"
        runs[name].outcome = Retry(3600, {"state": JobStatus.PENDING, "deliveries": 0}, waits=True)
    await store.settle([runs["old"], runs["late"]])
    given_late = {"holders": {"job": "late", "fence": 1}}
    await store.collections.slots.update_one({"_id": "key"}, {"$push": given_late})
    assert [ticket.job_id for ticket in await slots.give_back("runs", 1, ["key"])] == ["old"]


async def test_a_process_that_is_late_gives_back_no_slot_of_a_newer_run(db):
    store = Store(db.name, "first")
    slots = SlotStore(store)
    await store.add([make_envelope("a"), make_envelope("b")])
    runs = await store.begin(["a"])
    assert await slots.acquire("a", 1, {"key": 1}) is None
    runs["a"].outcome = Retry(0, {"state": JobStatus.PENDING, "deliveries": 0})
    assert await store.settle([runs["a"]]) == [True]
    await store.begin(["a", "b"])
    assert await slots.acquire("a", 2, {"key": 1}) is None
    assert await slots.give_back("a", 1, ["key"]) == []
    assert await slots.acquire("b", 1, {"key": 1}) == "key"


async def test_a_forged_ticket_harms_no_other_job(db, settings):
    handler = Repeater()
    store = Store(db.name, "web")
    async with consuming(settings, EagerBroker(), handler) as engine:
        await store.add([make_envelope()])
        forged: list[Any] = ["\ud800", {"$gt": ""}, 2**64]
        await asyncio.gather(*map(engine.deliver, [*forged, "job"]))
        assert handler.deliveries

"""Limits of tasks: how many of their jobs run at once, in all workers together."""

import asyncio
import time
from collections import Counter, defaultdict
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest

from core.config import Settings
from core.tasks import JobFailed, JobStatus, Limit, QueueUnavailable, Worker, executor
from core.tasks.engine import Promise
from core.testing import eventually
from core.tests.running import WAIT, consuming, running


@asynccontextmanager
async def three_workers(worker: Worker, settings: Settings) -> AsyncIterator[None]:
    """Run jobs in three workers. With the engine `local`, two of them have no jobs."""
    async with AsyncExitStack() as stack:
        await stack.enter_async_context(running(worker, settings))
        for _ in range(2):
            other = Worker()
            other.tasks = worker.tasks
            await stack.enter_async_context(other.open(settings))
            await stack.enter_async_context(consuming(other))
        yield


async def wait_for(worker: Worker, waiting: int, running: int = 1, seconds: float = WAIT) -> None:
    """Wait until so many jobs wait for a slot, and so many run."""

    async def is_so() -> bool:
        stats = await worker.queue.engine.stats()
        return (stats.pending, stats.running, stats.scheduled) == (0, running, waiting)

    await eventually(is_so, seconds)


class Gate:
    """Counts the jobs that are in it. They leave it one by one, as the test lets them.

    A job leaves through a door.
    """

    def __init__(self) -> None:
        self.began: list[str] = []
        self.now: Counter[str] = Counter()
        self.most: Counter[str] = Counter()
        self._doors: defaultdict[str, asyncio.Semaphore] = defaultdict(lambda: asyncio.Semaphore(0))

    def let_out(self, count: int = 1, door: str = "") -> None:
        for _ in range(count):
            self._doors[door].release()

    async def enter(self, key: str, name: str = "", door: str = "") -> None:
        self.began.append(name or key)
        self.now[key] += 1
        self.most[key] = max(self.most[key], self.now[key])
        try:
            await self._doors[door].acquire()
        finally:
            self.now[key] -= 1


async def test_never_more_jobs_run_than_the_limit_allows(worker, engine_settings):
    gate = Gate()

    @worker.task(limit=Limit(concurrency=3, key=lambda customer, number: customer))
    async def limited(customer: str, number: int) -> None:
        await gate.enter(customer)

    async with three_workers(worker, engine_settings):
        calls = [[customer, number] for number in range(30) for customer in ("a", "b")]
        jobs = await limited.enqueue_many(calls)
        await eventually(lambda: gate.now == {"a": 3, "b": 3}, WAIT)
        for _ in jobs:
            gate.let_out()
            await asyncio.sleep(0.01)
        for job in jobs:
            await job.result(WAIT)
            record = await job.record()
            assert (record.attempt, record.deliveries) == (1, 1)  # waiting counts as neither
        await wait_for(worker, waiting=0, running=0)
    assert gate.most == {"a": 3, "b": 3}


async def test_a_job_that_waits_holds_no_slot_of_the_worker(worker, run, engine_settings):
    engine_settings.task_concurrency = 2
    gate = Gate()

    @worker.task(limit=Limit(concurrency=1))
    async def limited() -> None:
        await gate.enter("limited")

    @worker.task
    async def free() -> str:
        return "done"

    async with run():
        jobs = await limited.enqueue_many([[]] * 100)
        await wait_for(worker, waiting=99)
        assert {await job.status() for job in jobs} == {JobStatus.RUNNING, JobStatus.PENDING}
        assert await (await free.enqueue()).result(WAIT) == "done"
        gate.let_out(100)
        for job in jobs:
            await job.result(WAIT)
    assert gate.most == {"limited": 1}


async def test_a_job_takes_a_slot_of_each_limit_or_none(worker, engine_settings):
    gate = Gate()
    of_host = Limit(concurrency=1, key=lambda host, user: host)
    of_user = Limit(concurrency=2, key=lambda host, user: user)

    @worker.task(limit=[of_host, of_user])
    async def deliver(host: str, user: str) -> None:
        await gate.enter(user, f"{host} {user}", host)

    async with three_workers(worker, engine_settings):
        await deliver.enqueue("dead", "ada")
        await wait_for(worker, waiting=0)
        jobs = await deliver.enqueue_many([["dead", "ada"]] * 20)
        await wait_for(worker, waiting=20)
        # The jobs that wait for the host hold no slot of the user.
        jobs.append(await deliver.enqueue("fine", "ada"))
        await wait_for(worker, waiting=20, running=2)
        # The user's slots are taken. The other user has slots.
        jobs.append(await deliver.enqueue("other", "ada"))
        jobs.append(await deliver.enqueue("third", "eve"))
        await wait_for(worker, waiting=21, running=3)
        await eventually(lambda: gate.began == ["dead ada", "fine ada", "third eve"])
        # A free slot of the user goes to the first job that can use it.
        for host in ("fine", "other", "third"):
            gate.let_out(door=host)
        for job in jobs[-3:]:
            await job.result(WAIT / 3)  # before it looks for a slot by itself
        assert gate.began[3:] == ["other ada"]
        gate.let_out(len(jobs), "dead")
        for job in jobs:
            await job.result(WAIT)
    assert gate.most["ada"] == 2


@pytest.mark.parametrize("others", [5, 250])
async def test_a_job_waits_behind_no_job_that_needs_another_slot(worker, run, others):
    gate = Gate()
    limits = [Limit(concurrency=2), Limit(concurrency=1, key=lambda host: host)]

    @worker.task(limit=limits)
    async def deliver(host: str) -> None:
        await gate.enter(host, door=host)

    async with run():
        jobs = [await deliver.enqueue(host) for host in ("dead", "fine")]
        await wait_for(worker, waiting=0, running=2)
        jobs += await deliver.enqueue_many([["dead"]] * others)
        await wait_for(worker, waiting=others, running=2)
        last = await deliver.enqueue("last")
        await wait_for(worker, waiting=others + 1, running=2)
        gate.let_out(door="fine")
        gate.let_out(door="last")
        await last.result(executor.SLOT_SECONDS[0] / 3)  # before it looks for a slot by itself
        gate.let_out(others + 1, "dead")
        for job in jobs:
            await job.result(WAIT)
    assert gate.most == {"dead": 1, "fine": 1, "last": 1}


async def test_a_slot_becomes_free_while_a_job_steps_aside(worker, run):
    gate = Gate()

    @worker.task(limit=Limit(concurrency=1))
    async def limited(name: str) -> None:
        await gate.enter("limited", name)

    async with run():
        first = await limited.enqueue("first")
        await wait_for(worker, waiting=0)
        records = worker.queue.engine.records
        acquire = records.acquire

        async def answer_late(*words: Any) -> Any:
            missing = await acquire(*words)
            if missing is not None:
                gate.let_out(2)
                await first.result(WAIT)
            return missing

        records.acquire = answer_late
        second = await limited.enqueue("second")
        await second.result(executor.SLOT_SECONDS[0] / 3)  # before it looks for a slot by itself


@pytest.mark.needs(Promise.PRIORITIES)
async def test_waiting_jobs_run_in_order_and_by_priority(worker, run):
    gate = Gate()

    @worker.task(limit=Limit(concurrency=1))
    async def limited(name: str) -> None:
        await gate.enter("limited", name)

    async with run():
        jobs = [await limited.enqueue("first")]
        await wait_for(worker, waiting=0)
        for waiting, name in enumerate(["low 1", "low 2", "high 1", "high 2", "normal"], start=1):
            bound = limited.using(priority=name.partition(" ")[0])
            jobs.append(await bound.enqueue(name))
            await wait_for(worker, waiting)
        gate.let_out(len(jobs))
        for job in jobs:
            await job.result(WAIT)
    assert gate.began == ["first", "high 1", "high 2", "normal", "low 1", "low 2"]


async def test_a_waiting_job_can_be_aborted(worker, run):
    gate = Gate()

    @worker.task(limit=Limit(concurrency=1))
    async def limited(name: str) -> str:
        await gate.enter("limited", name)
        return name

    @worker.task
    async def after(name: str) -> None: ...

    async with run():
        first = await limited.enqueue("first")
        await wait_for(worker, waiting=0)
        chain = await (limited | after).enqueue("aborted")
        last = await limited.enqueue("last")
        await wait_for(worker, waiting=2)
        assert await chain.stages[0].abort(WAIT)
        # At once, and not when it looks for a slot by itself.
        await wait_for(worker, waiting=1, seconds=executor.SLOT_SECONDS[0] / 3)
        gate.let_out(2)
        for job in (first, last):
            await job.result(WAIT)
        assert (await chain.stages[1].wait(WAIT)).status is JobStatus.ABORTED
        await wait_for(worker, waiting=0, running=0)
    assert gate.began == ["first", "last"]


async def test_a_failed_attempt_gives_its_slot_back(worker, run):
    ran = []

    @worker.task(retry_delay=3600, jitter=False, limit=Limit(concurrency=1))
    async def limited(name: str) -> None:
        ran.append(name)
        if name == "broken":
            raise ValueError("not now")

    async with run():
        await limited.enqueue("broken")
        await wait_for(worker, waiting=1, running=0)  # for its retry
        await (await limited.enqueue("fine")).result(WAIT)
    assert ran == ["broken", "fine"]


async def test_a_suspect_waits_for_its_slot(worker, run):
    gate = Gate()

    @worker.task(limit=Limit(concurrency=1))
    async def limited(name: str) -> None:
        await gate.enter("limited", name)

    async with run():
        suspect = await limited.using(delay=0.5).enqueue("suspect")
        await asyncio.to_thread(worker.queue.engine.records.blame, suspect.id)
        gate.let_out(3)
        jobs = await limited.enqueue_many([["one"], ["two"]])
        for job in (*jobs, suspect):
            await job.result(WAIT)
        assert (await suspect.record()).attempt == 1
    assert gate.most == {"limited": 1}


async def test_a_lower_limit_holds_for_waiting_jobs(worker, run):
    gate = Gate()

    @worker.task(limit=Limit(concurrency=3))
    async def limited() -> None:
        await gate.enter("limited")

    async with run():
        jobs = await limited.enqueue_many([[]] * 10)
        await wait_for(worker, waiting=7, running=3)
        limited.options = replace(limited.options, limit=Limit(concurrency=1))  # a deploy
        gate.let_out(3)
        await wait_for(worker, waiting=6, running=1)
        gate.most.clear()
        gate.let_out(7)
        for job in jobs:
            await job.result(WAIT)
    assert gate.most == {"limited": 1}


async def test_the_stages_of_a_chain_obey_limits(worker, run):
    gate = Gate()

    @worker.task
    async def first(name: str) -> str:
        return name

    @worker.task(limit=Limit(concurrency=1, key=lambda name: name))
    async def second(name: str) -> str:
        await gate.enter(name)
        return name

    async with run():
        chains = [await (first | second).enqueue("ada") for _ in range(5)]
        await wait_for(worker, waiting=4)
        gate.let_out(5)
        for chain in chains:
            assert await chain.result(WAIT) == "ada"
    assert gate.most == {"ada": 1}


async def test_a_key_that_cannot_be_made_fails_the_job(worker, run):
    @worker.task(max_retries=0, limit=Limit(concurrency=1, key=lambda name: name.missing))
    async def limited(name: str) -> None: ...

    async with run():
        job = await limited.enqueue("ada")
        with pytest.raises(JobFailed, match="has no attribute 'missing'"):
            await job.result(WAIT)


async def test_an_outage_counts_no_attempt(worker, run):
    lost: list[str] = []

    @worker.task(max_retries=0, limit=Limit(concurrency=1))
    async def limited() -> str:
        return "done"

    async with run():
        records = worker.queue.engine.records
        acquire = records.acquire

        async def lose_the_first_reply(job_id: str, *words: Any) -> Any:
            missing = await acquire(job_id, *words)
            if not lost:
                lost.append(job_id)
                raise QueueUnavailable("the connection ended")
            return missing

        records.acquire = lose_the_first_reply
        jobs = await limited.enqueue_many([[], []])
        for job in jobs:
            assert await job.result(WAIT) == "done"
    assert lost


async def test_an_expired_job_passes_its_slot_on(worker, run, monkeypatch):
    gate = Gate()

    @worker.task(expires=3600, limit=Limit(concurrency=1))
    async def limited(name: str) -> None:
        await gate.enter("limited", name)

    async with run():
        first = await limited.enqueue("first")
        await wait_for(worker, waiting=0)
        expired = await limited.enqueue_many([["late"]] * 10)
        limited.options = replace(limited.options, expires=None)
        last = await limited.enqueue("last")
        await wait_for(worker, waiting=11)
        later = SimpleNamespace(time=lambda: time.time() + 7200, monotonic=time.monotonic)
        monkeypatch.setattr(executor, "time", later)
        gate.let_out(2)
        await first.result(WAIT)
        await last.result(executor.SLOT_SECONDS[0] / 2)  # before it looks for a slot by itself
        for job in expired:
            with pytest.raises(JobFailed, match="JobExpired"):
                await job.result(WAIT)
    assert gate.began == ["first", "last"]

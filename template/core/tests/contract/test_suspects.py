"""Suspects: a job that blocked the event loop of a worker runs alone, and then dies."""

import asyncio

import pytest

from core.tasks import JobFailed, RetryAfter, Worker, executor
from core.tasks.engine import Promise
from core.testing import eventually
from core.tests.running import WAIT


async def test_a_job_that_blocked_its_worker_runs_alone(worker, run):
    running: set[str] = set()
    beside = []
    started = asyncio.Event()

    @worker.task
    async def innocent(name: str) -> str:
        running.add(name)
        started.set()
        await asyncio.sleep(0.2)
        running.discard(name)
        return name

    @worker.task
    async def suspect() -> None:
        for _ in range(10):
            beside.append(set(running))
            await asyncio.sleep(0.05)

    async with run():
        job = await suspect.using(delay=0.5).enqueue()
        await asyncio.to_thread(worker.queue.engine.records.blame, job.id)
        jobs = [await innocent.enqueue(f"early {number}") for number in range(5)]
        await asyncio.wait_for(started.wait(), WAIT)
        await eventually(lambda: beside, WAIT)
        jobs += [await innocent.enqueue(f"late {number}") for number in range(5)]
        await job.result(WAIT)
        for each in jobs:
            await each.result(WAIT)
    assert beside == [set()] * 10


async def test_long_jobs_and_suspects_do_not_wait_for_each_other_forever(worker, run, monkeypatch):
    monkeypatch.setattr(executor, "ALONE_SECONDS", 0.3)
    began, ended = asyncio.Event(), asyncio.Event()

    @worker.task
    async def long() -> None:
        await began.wait()

    @worker.task
    async def suspect() -> None:
        began.set()
        await ended.wait()

    @worker.task
    async def late() -> None:
        ended.set()

    async with run():
        job = await suspect.using(delay=0.5).enqueue()
        await asyncio.to_thread(worker.queue.engine.records.blame, job.id)
        before = await long.enqueue()
        await asyncio.wait_for(began.wait(), WAIT)
        for each in (await late.enqueue(), job, before):
            await each.result(WAIT)


@pytest.mark.needs(Promise.DURABLE)
async def test_a_suspect_that_another_worker_has_begun_does_not_run_here(
    worker, run, engine_settings
):
    """Its message may come twice, while it waits for the other jobs of a worker to end."""
    ran = []
    began, go_on = asyncio.Event(), asyncio.Event()

    @worker.task
    async def long() -> None:
        began.set()
        await go_on.wait()

    @worker.task
    async def suspect() -> None:
        ran.append(1)

    other = Worker()
    async with run(), other.open(engine_settings):
        before = await long.enqueue()
        await asyncio.wait_for(began.wait(), WAIT)
        job = await suspect.using(delay=0.3).enqueue()
        await asyncio.to_thread(worker.queue.engine.records.blame, job.id)
        await eventually(lambda: not worker._opened.executor.may_begin(), WAIT)
        record = await other.queue.engine.records.begin(job.id, 0)
        assert record.worker == other.queue.engine.name
        go_on.set()
        await before.result(WAIT)
        await eventually(worker._opened.executor.may_begin, WAIT)
        assert ran == []


async def test_a_job_that_blocked_twice_is_dead(worker, run):
    ran = []

    @worker.task(max_retries=3)
    async def blocking() -> None:
        ran.append(1)

    async with run():
        job = await blocking.using(delay=0.5).enqueue()
        records = worker.queue.engine.records
        for _ in range(2):
            await asyncio.to_thread(records.blame, job.id)
        with pytest.raises(JobFailed, match="blocked the event loop of its worker twice"):
            await job.result(WAIT)
        await asyncio.to_thread(records.blame, job.id)
        assert (await job.record()).blocked == 2  # the record of an ended job does not change
        await worker.dead_letters.move()
        assert len(await worker.dead_letters.list()) == 1
    assert ran == []


async def test_an_outcome_clears_a_job(worker, run):
    blocked = []

    @worker.task
    async def slow() -> None:
        blocked.append((await job.record()).blocked)
        if len(blocked) == 1:
            raise RetryAfter(0.1)

    async with run():
        job = await slow.using(delay=0.5).enqueue()
        await asyncio.to_thread(worker.queue.engine.records.blame, job.id)
        await job.result(WAIT)
    assert blocked == [1, 0]

"""Engines list the jobs that wait or run, in pages."""

import asyncio
import time
from collections import Counter
from datetime import UTC, datetime, timedelta

import pytest

from core.tasks import JobStatus, Worker
from core.tasks.engine import BadPosition, Engine, Promise
from core.testing import eventually
from core.tests.running import WAIT
from core.tests.writing import write_record

MANY = 20


@pytest.fixture
def engine_settings(engine_settings):
    """Settings of a worker that runs one job at a time, and does not wait for it at the end."""
    engine_settings.task_concurrency = 1
    engine_settings.task_grace_period = 0
    return engine_settings


@pytest.fixture
def gate() -> asyncio.Event:
    """Lets the job of `busy` end."""
    return asyncio.Event()


@pytest.fixture
def work(worker):
    """A task whose jobs end at once."""

    @worker.task
    async def work(number: int = 0) -> None: ...

    return work


@pytest.fixture
def busy(worker, gate):
    """A task that keeps the worker's only slot until the gate opens."""

    @worker.task
    async def busy() -> None:
        await gate.wait()

    return busy


async def keep_busy(worker: Worker, busy) -> str:
    """Start a job that runs until the gate opens, and return its id."""
    job = await busy.enqueue()

    async def runs() -> bool:
        return await job.status() is JobStatus.RUNNING

    await eventually(runs, WAIT)
    return job.id


async def browse(engine: Engine, status: JobStatus, limit: int = 3) -> list[str]:
    """Return the ids of all jobs of a status, page by page."""
    ids: list[str] = []
    after: str | None = None
    while True:
        page, after = await engine.browse(status, after, limit)
        assert len(page) <= limit
        ids += [listed.id for listed in page]
        if after is None:
            return ids


@pytest.mark.needs(Promise.PRIORITIES)
async def test_pending_jobs_come_in_the_order_in_which_workers_take_them(worker, run, work, busy):
    async with run():
        engine = worker.queue.engine
        await keep_busy(worker, busy)
        expected: dict[str, list[str]] = {"high": [], "normal": [], "low": []}
        for number in range(MANY):
            for priority, ids in expected.items():
                ids.append((await work.using(priority=priority).enqueue(number)).id)
        in_order = [*expected["high"], *expected["normal"], *expected["low"]]
        for limit in (1, 3, 8, 100):
            assert await browse(engine, JobStatus.PENDING, limit) == in_order
        (first, *_), _ = await engine.browse(JobStatus.PENDING, None, 1)
        assert first.record.task == "work"
        assert abs(first.at - time.time()) < WAIT


async def test_a_full_last_page_has_no_next_one(worker, run, work, busy):
    async with run():
        await keep_busy(worker, busy)
        await work.enqueue_many([()] * 4)
        page, after = await worker.queue.engine.browse(JobStatus.PENDING, None, 2)
        assert len(page) == 2
        assert after
        page, after = await worker.queue.engine.browse(JobStatus.PENDING, after, 2)
        assert len(page) == 2
        assert after is None


async def test_scheduled_jobs_come_in_the_order_of_their_times(worker, run, work):
    async with run():
        engine = worker.queue.engine
        at = datetime.now(UTC) + timedelta(hours=1)
        same = [await work.using(run_at=at, priority=each).enqueue() for each in ("high", "low")]
        later = [await work.using(delay=7200 + n).enqueue(n) for n in range(MANY)]
        sooner = await work.using(delay=60, priority="low").enqueue()
        expected = [sooner.id, *(job.id for job in same), *(job.id for job in later)]
        for limit in (1, 3, 8, 100):
            found = await browse(engine, JobStatus.SCHEDULED, limit)
            assert sorted(found[1:3]) == sorted(expected[1:3])
            assert found[:1] + found[3:] == expected[:1] + expected[3:]
        _, after = await engine.browse(JobStatus.SCHEDULED, None, 1)
        (second,), _ = await engine.browse(JobStatus.SCHEDULED, after, 1)
        assert second.at == pytest.approx(at.timestamp(), abs=1)
        assert await browse(engine, JobStatus.PENDING) == []


async def test_many_jobs_of_one_time_are_listed_once_each(worker, run, work):
    async with run():
        later = work.using(run_at=datetime.now(UTC) + timedelta(hours=1))
        jobs = [await later.enqueue(number) for number in range(MANY)]
        found = await browse(worker.queue.engine, JobStatus.SCHEDULED)
        assert Counter(found) == Counter(job.id for job in jobs)


async def test_running_jobs_are_neither_pending_nor_scheduled(worker, run, busy, gate):
    async with run():
        engine = worker.queue.engine
        job_id = await keep_busy(worker, busy)
        (listed,), after = await engine.browse(JobStatus.RUNNING, None, 5)
        assert listed.id == job_id
        assert listed.record.status is JobStatus.RUNNING
        assert after is None
        assert await browse(engine, JobStatus.PENDING) == []
        gate.set()
        await worker.job(job_id).wait(WAIT)

        async def has_none() -> bool:
            return await browse(engine, JobStatus.RUNNING) == []

        await eventually(has_none, WAIT)


@pytest.mark.needs(Promise.PRIORITIES)
async def test_several_running_jobs_are_paged(worker, run, busy, gate, engine_settings):
    engine_settings.task_concurrency = 5
    async with run():
        jobs = [await busy.using(priority=each).enqueue() for each in ("low", "high", "normal")]

        async def all_run() -> bool:
            return len(await browse(worker.queue.engine, JobStatus.RUNNING, 1)) == len(jobs)

        await eventually(all_run, WAIT)
        low, high, normal = (job.id for job in jobs)
        assert await browse(worker.queue.engine, JobStatus.RUNNING, 1) == [high, normal, low]
        gate.set()


async def test_aborted_jobs_are_left_out(worker, run, work, busy):
    async with run():
        engine = worker.queue.engine
        await keep_busy(worker, busy)
        jobs = await work.enqueue_many([()] * MANY)
        later = await work.using(delay=3600).enqueue()
        for job in [*jobs[:10], later]:
            assert await job.abort()
        assert await browse(engine, JobStatus.PENDING) == [job.id for job in jobs[10:]]
        assert await browse(engine, JobStatus.SCHEDULED) == []


async def test_a_page_goes_on_after_a_job_that_has_gone(worker, run, work, busy, gate):
    async with run():
        engine = worker.queue.engine
        await keep_busy(worker, busy)
        jobs = await work.enqueue_many([()] * MANY)
        page, after = await engine.browse(JobStatus.PENDING, None, 5)
        assert [listed.id for listed in page] == [job.id for job in jobs[:5]]
        gate.set()
        for job in jobs:
            await job.wait(WAIT)
        await eventually(lambda: is_empty(engine), WAIT)
        gate.clear()
        await keep_busy(worker, busy)
        new = await work.enqueue_many([()] * 3)
        page, after = await engine.browse(JobStatus.PENDING, after, 5)
        assert [listed.id for listed in page] == [job.id for job in new]
        assert after is None
        gate.set()


async def is_empty(engine: Engine) -> bool:
    stats = await engine.stats()
    return not stats.pending and not stats.running


async def test_no_job_that_stays_is_missed_while_others_move(worker, run, work, busy):
    async with run():
        engine = worker.queue.engine
        await keep_busy(worker, busy)
        soon = [await work.using(delay=delay).enqueue() for delay in (0.2, 0.3, 0.4)]
        jobs = await work.enqueue_many([()] * MANY)
        seen: list[str] = []
        after: str | None = None
        while True:
            page, after = await engine.browse(JobStatus.PENDING, after, 2)
            seen += [listed.id for listed in page]
            if after is None:
                break
            await work.using(priority="high").enqueue()
            await asyncio.sleep(0.05)
        assert {job.id for job in jobs} <= set(seen)

        async def has_all() -> bool:
            return {job.id for job in soon} <= set(await browse(engine, JobStatus.PENDING))

        await eventually(has_all, WAIT)


async def test_a_job_without_a_record_is_unknown(worker, run, work, busy):
    async with run():
        engine = worker.queue.engine
        await keep_busy(worker, busy)
        job = await work.enqueue()
        await write_record(worker, job.id, {"state": "lost"})  # type: ignore[typeddict-item]
        (listed,), _ = await engine.browse(JobStatus.PENDING, None, 5)
        assert (listed.id, listed.record.state) == (job.id, JobStatus.UNKNOWN)


@pytest.mark.parametrize("state", [JobStatus.PENDING, JobStatus.SCHEDULED, JobStatus.RUNNING])
@pytest.mark.parametrize("position", ["x", "é", "MSBuYW4gc2V0IGE=", "{}"])
async def test_a_position_of_a_stranger_is_refused(worker, run, state, position):
    async with run():
        with pytest.raises(BadPosition, match="begin with the first page"):
            await worker.queue.engine.browse(state, position, 5)

"""A worker stops, and its jobs end, go on elsewhere, or are lost, as the engine promises."""

import asyncio
import threading

import pytest

from core.entry import Service, open_service
from core.tasks import current_job
from core.tasks.engine import Promise
from core.testing import eventually
from core.tests.running import WAIT, consuming, running

LEASE_SECONDS = 10
"""Seconds that are less than the lease of any engine."""


async def test_a_running_job_is_finished(worker, run):
    started = asyncio.Event()
    finished = []

    @worker.task
    async def steady() -> None:
        started.set()
        await eventually(lambda: not worker.takes_jobs, WAIT)
        finished.append(1)

    async with run():
        await steady.enqueue()
        await asyncio.wait_for(started.wait(), WAIT)
    assert finished == [1]


async def test_a_worker_tells_whether_it_takes_jobs(worker, run):
    assert not worker.takes_jobs
    async with run():
        await eventually(lambda: worker.takes_jobs, WAIT)
    assert not worker.takes_jobs


@pytest.mark.needs(Promise.DURABLE)
async def test_jobs_outlive_their_process(worker, engine_settings):
    @worker.task
    async def later() -> int:
        return 1

    async with open_service(Service([], [], worker), engine_settings):
        job_id = (await later.using(delay=0.5).enqueue()).id
    async with running(worker, engine_settings):
        assert await worker.job(job_id).result(WAIT) == 1


@pytest.mark.needs(Promise.ORDERLY_STOP)
async def test_a_job_that_a_stopped_worker_put_back_starts_at_once(worker, engine_settings):
    """It does not wait until the lease of the stopped worker runs out."""
    engine_settings.task_grace_period = 0
    started = asyncio.Event()
    deliveries = []

    @worker.task
    async def slow() -> None:
        deliveries.append((await worker.job(current_job().id).record()).deliveries)
        started.set()
        if len(deliveries) == 1:
            await asyncio.sleep(60)

    service = Service([], [], worker)
    async with open_service(service, engine_settings), consuming(worker):
        job_id = (await slow.enqueue()).id
        await asyncio.wait_for(started.wait(), WAIT)
    async with running(worker, engine_settings):
        await worker.job(job_id).result(LEASE_SECONDS)
    assert deliveries == [1, 1]


async def test_stopping_takes_no_longer_than_the_grace_period(worker, engine_settings):
    engine_settings.task_grace_period = 0
    engine_settings.task_concurrency = 1
    started = asyncio.Event()
    cut_off = threading.Event()

    @worker.task
    async def endless() -> None:
        started.set()
        await asyncio.sleep(60)

    @worker.task
    def endless_thread() -> None:
        loop.call_soon_threadsafe(started.set)
        cut_off.wait(60)

    loop = asyncio.get_running_loop()
    for task in (endless, endless_thread):
        started.clear()
        async with asyncio.timeout(WAIT):
            async with running(worker, engine_settings):
                await task.enqueue()
                await task.enqueue()  # stays pending: there is one slot
                await started.wait()
        engine_settings.queue_name += "-2"
    cut_off.set()


async def test_stopping_ends_while_jobs_fail(worker, engine_settings):
    """No helper of the worker may swallow its cancellation."""

    @worker.task(max_retries=0)
    async def broken() -> None:
        raise ValueError("no")

    for _ in range(5):
        async with asyncio.timeout(WAIT), running(worker, engine_settings):
            jobs = await broken.enqueue_many([[]] * 5)
            await jobs[0].wait(WAIT)


async def test_the_documents_of_late_jobs_are_removed_too(worker, engine_settings):
    """The next test must not find dead letters of jobs that ended while the worker stopped."""
    started = asyncio.Event()

    @worker.task(max_retries=0)
    async def broken() -> None:
        started.set()
        await eventually(lambda: not worker.takes_jobs, WAIT)
        raise ValueError("no")

    async with running(worker, engine_settings):
        await broken.enqueue()
        await asyncio.wait_for(started.wait(), WAIT)
    async with running(worker, engine_settings):
        assert await worker.dead_letters.list() == []

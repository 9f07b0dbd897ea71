"""When a job runs: scheduled jobs, priorities, expiry, and the figures of the queue."""

import asyncio
import time
from datetime import UTC, datetime, timedelta

import pytest

from core.entry import Service, open_service
from core.tasks import JobFailed, JobStatus
from core.tasks.engine import Promise
from core.testing import eventually
from core.tests.running import WAIT, consuming

LATER = 3600
EXPIRES = 2


async def test_a_scheduled_job_waits_until_it_is_due(worker, run):
    @worker.task
    async def later() -> float:
        return time.time()

    async def stats_scheduled() -> int:
        return (await worker.queue.engine.stats()).scheduled

    async with run():
        hour = datetime.now(UTC) + timedelta(seconds=LATER)
        far = [await later.enqueue(scheduled_at=hour), await later.using(delay=LATER).enqueue()]
        assert [await job.status() for job in far] == [JobStatus.SCHEDULED] * 2
        assert await stats_scheduled() == 2

        due = datetime.now(UTC) + timedelta(seconds=0.4)
        near = [await later.enqueue(scheduled_at=due), await later.using(delay=0.4).enqueue()]
        for job in near:
            assert await job.result(WAIT) >= due.timestamp() - 0.01
        assert await stats_scheduled() == 2


@pytest.mark.needs(Promise.EXACT_DELAYS)
async def test_a_scheduled_job_starts_at_its_time(worker, run):
    """On a busy machine some jobs are late. An engine that looks rarely is late for all of them."""

    @worker.task
    async def later() -> float:
        return time.time()

    late = []
    async with run():
        for _ in range(10):
            due = datetime.now(UTC) + timedelta(seconds=0.2)
            job = await later.enqueue(scheduled_at=due)
            late.append(await job.result(WAIT) - due.timestamp())
            if min(late) < 1:
                break
    assert min(late) < 1


async def test_the_figures_count_jobs_by_state(worker, run):
    go = asyncio.Event()

    @worker.task
    async def wait() -> None:
        await go.wait()

    async def figures() -> tuple[int, int, int]:
        stats = await worker.queue.engine.stats()
        return stats.pending, stats.running, stats.scheduled

    async def are(*expected: int) -> bool:
        return await figures() == expected

    async with run():
        jobs = [await wait.enqueue(), await wait.enqueue()]
        await wait.using(delay=LATER).enqueue()
        await eventually(lambda: are(0, 2, 1), WAIT)
        go.set()
        jobs.append(await wait.using(delay=0.1).enqueue())
        await asyncio.gather(*(job.result(WAIT) for job in jobs))
        await eventually(lambda: are(0, 0, 1), WAIT)


@pytest.mark.needs(Promise.PRIORITIES)
async def test_high_priority_goes_first(worker, engine_settings):
    order = []

    @worker.task
    async def note(name: str) -> None:
        order.append(name)

    engine_settings.task_concurrency = 1
    async with open_service(Service([], [], worker), engine_settings):
        # Enqueued together, before a worker takes the first one.
        priorities = ("low", "normal", "high")
        jobs = await asyncio.gather(
            *(note.using(priority=priority).enqueue(priority) for priority in priorities)
        )
        async with consuming(worker):
            await asyncio.gather(*(job.result(WAIT) for job in jobs))
    assert order == ["high", "normal", "low"]


async def test_a_job_expires_if_no_worker_takes_it_in_time(worker, run, engine_settings):
    engine_settings.task_concurrency = 1
    started, go = asyncio.Event(), asyncio.Event()
    ran = []

    @worker.task
    async def blocking() -> None:
        started.set()
        await go.wait()

    @worker.task(expires=EXPIRES)
    async def urgent(name: str) -> None:
        ran.append(name)

    async with run():
        await blocking.enqueue()
        await asyncio.wait_for(started.wait(), WAIT)
        late = await urgent.enqueue("late")
        scheduled = await urgent.using(delay=EXPIRES + 0.5).enqueue("scheduled")
        expired_at = time.time() + EXPIRES
        await eventually(lambda: time.time() > expired_at, WAIT)
        go.set()
        with pytest.raises(JobFailed, match="JobExpired: no worker was free"):
            await late.result(WAIT)
        await scheduled.result(WAIT)  # its time counts from when it is due
    assert ran == ["scheduled"]


async def test_a_clock_that_jumps_runs_no_job_early(worker, run, monkeypatch):
    @worker.task
    async def later() -> str:
        return "done"

    clock = time.time
    async with run():
        far = await later.using(delay=LATER).enqueue()
        near = await later.using(delay=1).enqueue()
        monkeypatch.setattr(time, "time", lambda: clock() + 2 * LATER)
        assert await near.result(WAIT) == "done"  # the engine has looked for jobs that are due
        assert (await far.record()).state is JobStatus.SCHEDULED
        assert (await worker.queue.engine.stats()).scheduled == 1

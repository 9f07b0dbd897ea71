"""Attempts that take longer than their time limits, and threads that never end."""

import asyncio
import threading

import pytest

from core.context import TaskContext
from core.tasks import JobFailed, JobStatus, time_limits
from core.testing import eventually
from core.tests.running import WAIT

PROBLEM = r"TimeoutError: the attempt took longer than 0.05 s \(timeout\)"


async def ignore_cancellation(go_on: asyncio.Event) -> str:
    while not go_on.is_set():
        try:
            await go_on.wait()
        except asyncio.CancelledError:
            continue
    return "late"


async def test_an_attempt_that_ignores_its_limit_fails_and_holds_no_slot(
    worker, run, engine_settings, monkeypatch, caplog
):
    monkeypatch.setattr(time_limits, "CLEANUP_SECONDS", 0.05)
    engine_settings.task_concurrency = 1
    go_on = asyncio.Event()

    @worker.task(max_retries=0, timeout=0.05)
    async def hung() -> str:
        return await ignore_cancellation(go_on)

    @worker.task
    async def fine() -> int:
        return 1

    async with run():
        try:
            job = await hung.enqueue()
            with pytest.raises(JobFailed, match=f"{PROBLEM}, and ignored its cancellation"):
                await job.result(WAIT)
            assert await (await fine.enqueue()).result(WAIT) == 1
        finally:
            go_on.set()
        late = "abandoned attempt ended, and does not count"
        await eventually(lambda: late in caplog.text, WAIT)
        assert await job.status() is JobStatus.FAILED


async def test_a_result_after_the_limit_does_not_count(worker, run):
    @worker.task(max_retries=0, timeout=0.05)
    async def late() -> str:
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            return "late"
        return "never"

    async with run():
        with pytest.raises(JobFailed, match=f"{PROBLEM}$"):
            await (await late.enqueue()).result(WAIT)


async def test_a_job_may_handle_its_soft_limit_until_its_hard_limit(worker, run):
    go_on = asyncio.Event()

    @worker.task(max_retries=0, soft_time_limit=0.05, time_limit=WAIT)
    async def tidy() -> str:
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            return "stopped before the end"
        return "never"

    @worker.task(max_retries=0, soft_time_limit=0.05, time_limit=0.1)
    async def hung() -> str:
        return await ignore_cancellation(go_on)

    async with run():
        assert await (await tidy.enqueue()).result(WAIT) == "stopped before the end"
        try:
            with pytest.raises(JobFailed, match=r"took longer than 0.05 s .*, and ignored"):
                await (await hung.enqueue()).result(WAIT)
        finally:
            go_on.set()


async def test_a_worker_stops_although_a_job_ignores_its_cancellation(
    worker, run, engine_settings, monkeypatch
):
    monkeypatch.setattr(time_limits, "CLEANUP_SECONDS", 0.05)
    engine_settings.task_grace_period = 0
    started, go_on = asyncio.Event(), asyncio.Event()

    @worker.task
    async def hung() -> str:
        started.set()
        return await ignore_cancellation(go_on)

    async with asyncio.timeout(WAIT):
        async with run():
            await hung.enqueue()
            await started.wait()
    go_on.set()


async def test_hung_threads_hold_no_slot_of_a_job(worker, run, engine_settings):
    """Two direct calls that never end, such as a route's, hold all threads of direct calls."""
    engine_settings.task_concurrency = 2
    go_on = threading.Event()
    started = threading.Barrier(3, timeout=WAIT)

    @worker.task
    def hung() -> None:
        started.wait()
        go_on.wait()

    @worker.task(max_retries=0, timeout=1)
    def fine() -> int:
        return 1

    async with run():
        calls = [asyncio.create_task(hung()) for _ in range(2)]
        await asyncio.to_thread(started.wait)
        try:
            assert await (await fine.enqueue()).result(WAIT) == 1
        finally:
            go_on.set()
        await asyncio.gather(*calls)


async def test_the_context_that_a_job_sets_reaches_the_next_stage(worker, run):
    @worker.task
    async def first() -> int:
        TaskContext.set_actor("ada")
        return 1

    @worker.task
    async def second(value: int) -> str | None:
        return TaskContext.get_actor()

    async with run():
        chain = await (first | second).enqueue()
        assert await chain.result(WAIT) == "ada"

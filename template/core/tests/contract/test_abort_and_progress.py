"""Aborting jobs, and the progress that they report."""

import asyncio

import pytest

from core.tasks import JobFailed, JobStatus, current_job
from core.testing import eventually
from core.tests.running import WAIT


async def test_a_job_can_be_aborted_in_each_state(worker, run, engine_settings):
    engine_settings.task_concurrency = 1
    started, ended = asyncio.Event(), []

    @worker.task
    async def long(name: str) -> None:
        started.set()
        try:
            await asyncio.sleep(60)
        finally:
            ended.append(name)

    @worker.task
    async def fine() -> int:
        return 1

    async with run():
        running = await long.enqueue("running")
        await asyncio.wait_for(started.wait(), WAIT)
        pending = await long.enqueue("pending")
        scheduled = await long.using(delay=60).enqueue("scheduled")
        for job in (pending, scheduled, running):
            assert await job.abort(WAIT)
            assert await job.status() is JobStatus.ABORTED
            with pytest.raises(JobFailed, match="aborted"):
                await job.result(WAIT)
        done = await fine.enqueue()
        assert await done.result(WAIT) == 1
        assert not await done.abort(WAIT)
        assert not await worker.job("nobody").abort(0.1)
    assert ended == ["running"]


async def test_a_job_reports_its_progress(worker, run, monkeypatch):
    monkeypatch.setattr("core.tasks.current.PROGRESS_SECONDS", 60)
    go_on = asyncio.Event()

    @worker.task
    async def counting() -> None:
        await current_job().progress(1, 3, "one")
        await current_job().progress(2, 3, "dropped: too soon")
        await go_on.wait()
        await current_job().progress(3, 3, "all of half\udcff")

    async with run():
        job = await counting.enqueue()
        progress = await eventually(job.progress, WAIT)
        assert (progress.done, progress.total, progress.message) == (1, 3, "one")
        go_on.set()
        await job.result(WAIT)
        progress = await job.progress()
        assert progress
        assert progress.message == "all of half\\udcff"

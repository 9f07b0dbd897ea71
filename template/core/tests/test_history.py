"""History: failures, and runs of schedules, in MongoDB for some time."""

import argparse
import asyncio
from datetime import UTC, datetime, timedelta

import pytest
from pymongo.errors import AutoReconnect

from core import commands
from core.models import RunModel
from core.tasks import JobFailed, JobStatus, Worker
from core.tasks import upkeep

WAIT = 10


@pytest.fixture(autouse=True)
def soon(monkeypatch) -> None:
    monkeypatch.setattr(upkeep, "WRITE_SECONDS", 0.05)


async def runs(worker: Worker, count: int, **filters) -> list[RunModel]:
    """Runs of history, once there are so many."""
    async with asyncio.timeout(WAIT):
        while len(found := await worker.history.list(**filters)) < count:
            await asyncio.sleep(0.05)
    return found


async def test_failures_are_kept_and_found(worker, run, capsys):
    @worker.task(max_retries=1, retry_delay=0.01)
    async def broken() -> None:
        raise ValueError("first line\nsecond line")

    @worker.task
    async def fine() -> None: ...

    started = datetime.now(UTC) - timedelta(seconds=1)
    async with run():
        job = await broken.enqueue()
        with pytest.raises(JobFailed):
            await job.result(WAIT)
        await (await fine.enqueue()).result(WAIT)
        last, first = await runs(worker, 2)
        assert (first.ended_as, first.attempt, last.ended_as, last.attempt) == (
            "retried",
            1,
            "failed",
            2,
        )
        assert {first.job_id, last.job_id} == {job.id}
        assert (last.task, last.error, last.schedule) == (
            "broken",
            "ValueError: first line\nsecond line",
            None,
        )
        assert last.correlation_id == (await job.record()).correlation_id
        assert started < first.started_at < last.started_at
        assert last.expires_at - last.started_at == timedelta(days=30)

        assert len(await worker.history.list(ended_as="failed", since=started)) == 1
        assert await worker.history.list(task="fine") == []
        assert await worker.history.list(until=started) == []
        indexes = (await RunModel.get_pymongo_collection().index_information()).values()
        (index,) = [index for index in indexes if "expireAfterSeconds" in index]
        assert (index["key"], index["expireAfterSeconds"]) == ([("expires_at", 1)], 0)

        chosen = {
            "task": "broken",
            "schedule": None,
            "ended_as": "failed",
            "since": None,
            "until": None,
            "limit": 5,
        }
        await commands._history(worker, argparse.Namespace(**chosen))
        (line,) = capsys.readouterr().out.splitlines()
        assert line.endswith(f"job {job.id}  ValueError: first line")
        assert "  broken  failed  " in line


async def test_runs_of_schedules_are_kept_and_their_status_outlives_the_job(
    worker, run, engine_settings
):
    engine_settings.task_record_ttl = 0.5

    @worker.every(hours=1)
    @worker.task
    async def tidy() -> None: ...

    async with run():
        job_id = await worker.schedules.run_now("tidy")
        (kept,) = await runs(worker, 1, schedule="tidy")
        assert (kept.job_id, kept.ended_as, kept.task) == (job_id, "completed", "tidy")
        await asyncio.sleep(0.6)
        assert await worker.job(job_id).status() is JobStatus.UNKNOWN
        (view,) = await worker.schedules.list()
        assert view.status is JobStatus.COMPLETED


async def test_they_wait_while_mongodb_is_down(worker, run, monkeypatch):
    @worker.task(max_retries=0)
    async def broken() -> None:
        raise ValueError("no")

    async with run():

        def refuse():
            raise AutoReconnect("connection refused")

        # Only this call fails, as it would without a server; a real outage is in the tests of the template.
        with monkeypatch.context() as patch:
            patch.setattr(RunModel, "get_pymongo_collection", refuse)
            with pytest.raises(JobFailed):
                await (await broken.enqueue()).result(WAIT)
            await asyncio.sleep(0.2)
        await runs(worker, 1)
        await worker.history.write()
        assert len(await runs(worker, 1)) == 1

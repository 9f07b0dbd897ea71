"""History: failed attempts, and runs of schedules, are kept in MongoDB for some time."""

import asyncio
from datetime import UTC, datetime, timedelta

import pytest
from pymongo.errors import AutoReconnect

from core.models import RunModel
from core.tasks import JobFailed, JobStatus, Worker, upkeep
from core.testing import eventually
from core.tests.running import WAIT


@pytest.fixture(autouse=True)
def short_pauses(monkeypatch) -> None:
    monkeypatch.setattr(upkeep, "WRITE_SECONDS", 0.05)


async def wait_for_runs(worker: Worker, count: int, **filters) -> list[RunModel]:
    """Return the runs in the history once there are at least `count`."""

    async def find() -> list[RunModel] | None:
        found = await worker.history.list(**filters)
        return found if len(found) >= count else None

    found = await eventually(find, WAIT)
    assert found
    return found


async def test_failed_attempts_are_kept_and_found(worker, run):
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
        last, first = await wait_for_runs(worker, 2)
        assert (first.ended_as, first.attempt) == ("retried", 1)
        assert (last.ended_as, last.attempt) == ("failed", 2)
        assert {first.job_id, last.job_id} == {job.id}
        assert (last.task, last.schedule) == ("broken", None)
        assert last.error == "ValueError: first line\nsecond line"
        assert last.correlation_id == (await job.record()).correlation_id
        assert started < first.started_at < last.started_at

        assert len(await worker.history.list(ended_as="failed", since=started)) == 1
        assert await worker.history.list(task="fine") == []
        assert await worker.history.list(until=started) == []


async def test_runs_expire_by_an_index_on_their_own_time(worker, run):
    @worker.task(max_retries=0)
    async def broken() -> None:
        raise ValueError("no")

    async with run():
        await broken.enqueue()
        (kept,) = await wait_for_runs(worker, 1)
        assert kept.expires_at - kept.started_at == timedelta(days=30)
        indexes = (await RunModel.get_pymongo_collection().index_information()).values()
        (index,) = [index for index in indexes if "expireAfterSeconds" in index]
        assert (index["key"], index["expireAfterSeconds"]) == ([("expires_at", 1)], 0)


async def test_the_run_of_a_schedule_outlives_its_jobs_record(worker, run, engine_settings):
    engine_settings.task_record_ttl = 0.5

    @worker.every(hours=1)
    @worker.task
    async def tidy() -> None: ...

    async with run():
        job_id = await worker.schedules.run_now("tidy")
        (kept,) = await wait_for_runs(worker, 1, schedule="tidy")
        assert (kept.job_id, kept.ended_as, kept.task) == (job_id, "completed", "tidy")

        async def is_unknown() -> bool:
            return await worker.job(job_id).status() is JobStatus.UNKNOWN

        await eventually(is_unknown, WAIT)
        (view,) = await worker.schedules.list()
        assert view.status is JobStatus.COMPLETED


async def test_runs_stay_in_memory_while_mongodb_is_down(worker, run, monkeypatch):
    refused = asyncio.Event()

    @worker.task(max_retries=0)
    async def broken() -> None:
        raise ValueError("no")

    def refuse():
        refused.set()
        raise AutoReconnect("connection refused")

    async with run():
        # Only this call fails. The template's own tests stop a real server.
        with monkeypatch.context() as patch:
            patch.setattr(RunModel, "get_pymongo_collection", refuse)
            with pytest.raises(JobFailed):
                await (await broken.enqueue()).result(WAIT)
            await asyncio.wait_for(refused.wait(), WAIT)
        await wait_for_runs(worker, 1)
        await worker.history.write()
        assert len(await wait_for_runs(worker, 1)) == 1

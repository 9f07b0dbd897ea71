"""History: the runs of jobs are kept in MongoDB for some time."""

import asyncio
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import pytest
from pymongo.errors import AutoReconnect

from core.context import TaskContext
from core.models import RunModel
from core.tasks import JobFailed, JobStatus, Worker, history, upkeep
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


async def test_completed_runs_are_kept_for_a_day(worker, run):
    @worker.task
    async def fine() -> None: ...

    async with run():
        with TaskContext.use(actor="alice"):
            job = await fine.enqueue()
        (kept,) = await wait_for_runs(worker, 1, ended_as="completed")
        assert (kept.job_id, kept.owner, kept.sampled) == (job.id, "alice", 1)
        assert kept.worker == worker.queue.engine.name
        assert kept.expires_at - kept.started_at == timedelta(days=1)
        assert await worker.history.list() == []


async def test_completed_runs_can_be_turned_off(worker, run, engine_settings):
    engine_settings.task_completed_ttl = 0

    @worker.every(hours=1)
    @worker.task
    async def tidy() -> None: ...

    @worker.task
    async def fine() -> None: ...

    async with run():
        await (await fine.enqueue()).result(WAIT)
        await worker.schedules.run_now("tidy")
        await wait_for_runs(worker, 1, schedule="tidy")
        (kept,) = await worker.history.list(ended_as="completed")
        assert (kept.task, kept.expires_at - kept.started_at) == ("tidy", timedelta(days=30))


async def test_of_very_many_completed_runs_some_are_kept(worker, run, monkeypatch):
    """No failure and no run of a schedule is left out."""
    monkeypatch.setattr(history, "BURST", 3)
    monkeypatch.setattr(history, "RATE", 0)

    @worker.every(hours=1)
    @worker.task
    async def tidy() -> None: ...

    @worker.task(max_retries=0)
    async def number(value: int) -> None:
        if value % 2:
            raise ValueError("odd")

    async with run():
        for job in await number.enqueue_many([(value,) for value in range(20)]):
            await job.wait(WAIT)
        for _ in range(5):
            await worker.job(await worker.schedules.run_now("tidy")).wait(WAIT)
        assert len(await wait_for_runs(worker, 10, ended_as="failed")) == 10
        assert len(await wait_for_runs(worker, 5, schedule="tidy")) == 5
        kept = await wait_for_runs(worker, 3, task="number", ended_as="completed")
        assert [each.sampled for each in kept] == [1, 1, 1]
        monkeypatch.setattr(history, "RATE", 1e6)
        await (await number.enqueue(0)).wait(WAIT)
        newest, *_ = await wait_for_runs(worker, 4, task="number", ended_as="completed")
        assert newest.sampled == 8


async def test_each_question_has_an_index(worker, run):
    """MongoDB answers each question of the history from an index, in the order of time."""
    started_at = {"$gte": datetime.now(UTC) - timedelta(days=1)}
    completed = {"ended_as": "completed"}
    some = {"started_at": started_at, **completed}
    questions = {
        "ended_as": completed,
        "ended_as and time": some,
        "task": {**some, "task": "work"},
        "owner": {**some, "owner": "alice"},
        "owner and task": {**some, "owner": "alice", "task": "work"},
        "schedule": {"schedule": "nightly"},
        "failures": {"ended_as": {"$in": history.FAILURES}},
        "the history": history.make_notable({"started_at": started_at}),
        "the history of a task": history.make_notable({"task": "work"}),
    }
    async with run():
        collection = RunModel.get_pymongo_collection()
        for name, query in questions.items():
            plan = await collection.find(query).sort("started_at", -1).limit(50).explain()
            stages = set(find_stages(plan["queryPlanner"]["winningPlan"]))
            assert "IXSCAN" in stages, name
            assert not stages & {"COLLSCAN", "SORT"}, name
        names = await collection.index_information()
        assert {"schedule_1_started_at_-1", "started_at_-1"} <= set(names)
        for field in ("job_id", "correlation_id"):
            plan = await collection.find({field: "x"}).explain()
            assert "IXSCAN" in set(find_stages(plan["queryPlanner"]["winningPlan"]))


def find_stages(plan: object) -> Iterator[str]:
    """Yield the stages of a plan of MongoDB."""
    if isinstance(plan, dict):
        if isinstance(plan.get("stage"), str):
            yield plan["stage"]
        for part in plan.values():
            yield from find_stages(part)
    elif isinstance(plan, list):
        for part in plan:
            yield from find_stages(part)

"""From the queue to a task: unknown tasks, forged messages, ids and resources."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from core.context import TaskContext
from core.tasks import JobFailed, JobStatus, Worker, current_job, executor
from core.tasks.outcome import Envelope
from core.testing import eventually
from core.tests.running import WAIT
from core.tests.writing import write_record


async def test_an_unregistered_task_is_reported_by_name(worker, run):
    producer = Worker()

    @producer.task
    async def forgotten() -> None: ...

    async with run():
        forgotten._owner = worker  # a process that knows the task enqueues, another one runs
        with pytest.raises(JobFailed, match="no task named forgotten is registered"):
            await (await forgotten.enqueue()).result(WAIT)


async def test_a_job_waits_for_a_worker_that_knows_its_task(
    worker, run, engine_settings, monkeypatch
):
    """During a rolling deploy an old worker may take a job of the new code."""
    monkeypatch.setattr(executor, "UNKNOWN_SECONDS", 0.3)
    engine_settings.task_unknown_period = 60.0
    producer = Worker()

    @producer.task
    async def new() -> str:
        return "known now"

    async with run():
        new._owner = worker
        job = await new.enqueue()

        async def is_put_off() -> bool:
            return bool((await job.record()).unknown_since)

        await eventually(is_put_off, WAIT)
        assert await job.status() is not JobStatus.FAILED
        worker.tasks["new"] = new  # the newer worker
        assert await job.result(WAIT) == "known now"
        assert (await job.record()).attempt == 1


async def test_a_forged_message_is_refused(worker, run):
    ran = []

    @worker.task
    async def harmless(value: int) -> None:
        ran.append(value)

    async with run():
        engine = worker.queue.engine
        genuine = await harmless.enqueue(1)
        await genuine.result(WAIT)
        for number, body in enumerate([b"", b"{}", b"00.{}", "ü.ü".encode(), b"a" * 70_000]):
            await engine.publish([Envelope(f"forged-{number}", body, {"state": JobStatus.PENDING})])
            with pytest.raises(JobFailed, match="signature is not ours"):
                await worker.job(f"forged-{number}").result(WAIT)
    assert ran == [1]


async def test_an_ended_record_does_not_change(worker, run):
    """A worker that was taken for dead may report late."""
    started, go_on = asyncio.Event(), asyncio.Event()

    @worker.task(max_retries=0)
    async def late() -> None:
        started.set()
        await go_on.wait()
        raise ValueError("too late")

    async def is_settled() -> bool:
        return (await worker.queue.engine.stats()).running == 0

    async with run():
        job = await late.enqueue()
        await asyncio.wait_for(started.wait(), WAIT)
        await write_record(worker, job.id, {"state": JobStatus.ABORTED})
        go_on.set()
        await eventually(is_settled, WAIT)
        assert await job.status() is JobStatus.ABORTED
        assert (await job.record()).error is None
        assert await worker.queue.engine.records.count_stashed() == 0
        await worker.dead_letters.move()
        assert await worker.dead_letters.list() == []


async def test_an_outcome_resets_the_deliveries_but_never_the_fence(worker, run):
    seen = []

    @worker.task(max_retries=1, retry_delay=0)
    async def broken() -> None:
        record = await worker.job(current_job().id).record()
        seen.append((record.fence, record.deliveries))
        if len(seen) == 1:
            raise ValueError("not now")

    async with run():
        await (await broken.enqueue()).result(WAIT)
    assert seen == [(1, 1), (2, 1)]


@pytest.mark.parametrize("ending", ["completed", "failed", "retried", "aborted"])
async def test_a_run_that_lost_its_job_records_nothing(worker, run, caplog, ending):
    started, go_on = asyncio.Event(), asyncio.Event()

    @worker.task(max_retries=1 if ending == "retried" else 0)
    async def first() -> int:
        started.set()
        await go_on.wait()
        if ending != "completed":
            raise ValueError("not now")
        return 1

    @worker.task
    async def second(value: int) -> int:
        return value

    async with run():
        records = worker.queue.engine.records
        chain = await (first | second).enqueue()
        stage = chain.stages[0]
        await asyncio.wait_for(started.wait(), WAIT)
        owner = await records.begin(stage.id)  # another worker
        if ending == "aborted":
            await worker.queue.abort(stage.id)
        go_on.set()
        await eventually(lambda: "another worker has taken the job over" in caplog.text, WAIT)
        assert (await stage.record()).fence == owner.fence
        assert await chain.statuses() == [JobStatus.RUNNING, JobStatus.PENDING]
        assert await records.count_stashed() == 0
        await worker.history.write()
        assert await worker.history.list() == []


async def test_correlation_id_and_owner_reach_a_job_and_its_children(worker, run):
    seen = []

    @worker.task
    async def child() -> None:
        seen.append((TaskContext.get_correlation_id(), TaskContext.get_actor()))

    @worker.task
    async def parent() -> str:
        return (await child.enqueue()).id

    async with run():
        with TaskContext.use("request-1", actor="user-1"):
            job = await parent.enqueue()
        child_id = await job.result(WAIT)
        await worker.job(child_id).result(WAIT)
        assert (await worker.job(child_id).record()).owner == "user-1"
    assert seen == [("request-1", "user-1")]
    assert TaskContext.get_correlation_id() is None


async def test_a_service_whose_resources_fail_to_close_is_closed(worker, run):
    @worker.lifespan
    @asynccontextmanager
    async def broken(context):
        yield
        raise ValueError("it cannot be closed")

    with pytest.raises(ValueError, match="it cannot be closed"):
        async with run():
            assert worker.is_open
    assert not worker.is_open
    with pytest.raises(RuntimeError, match="no service is open here"):
        worker.queue  # noqa: B018


async def test_tasks_share_the_resources_of_the_lifespan(worker, run):
    events = []

    @worker.lifespan
    @asynccontextmanager
    async def open_search(context) -> AsyncIterator[None]:
        context.search = "open"
        yield
        events.append("closed")

    @worker.task
    async def search() -> str:
        assert worker.context.http_client is not None
        return worker.context.search

    async with run():
        assert await (await search.enqueue()).result(WAIT) == "open"
        assert await search() == "open"
    assert events == ["closed"]
    with pytest.raises(RuntimeError, match="no service is open here"):
        _ = worker.context

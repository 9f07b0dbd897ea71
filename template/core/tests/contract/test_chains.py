"""Chains: each stage's result is the next stage's argument."""

import asyncio
from collections.abc import Callable

import pytest

from core.context import TaskContext
from core.tasks import (
    ChainJob,
    InvalidArguments,
    JobFailed,
    JobStatus,
    Worker,
    executor,
)
from core.tasks.engine import Promise
from core.tasks.message import SIGNATURE_BYTES
from core.testing import eventually
from core.tests.running import WAIT, consuming, running
from core.tests.writing import write_record


async def test_a_chain_passes_each_result_on(worker, run):
    seen = []

    @worker.task
    async def parse(text: str) -> int:
        return int(text)

    @worker.task
    async def double(value: int) -> int:
        seen.append(TaskContext.get_correlation_id())
        return 2 * value

    @worker.task
    async def show(value: int, unit: str = "m") -> str:
        return f"{value} {unit}"

    async with run():
        with TaskContext.use("chain-1", actor="user-1"):
            chain = await (parse | double | show).enqueue("21")
        assert await chain.result(WAIT) == "42 m"
        assert await chain.statuses() == [JobStatus.COMPLETED] * 3
        assert await chain.status() is JobStatus.COMPLETED
        assert (await chain.stages[2].record()).owner == "user-1"
        with pytest.raises(InvalidArguments):
            await (parse | double).enqueue(1.5)
    assert seen == ["chain-1"]


async def test_a_failed_stage_stops_the_chain_and_its_replay_continues_it(worker, run):
    calls, broken = [], True

    @worker.task
    async def first(value: int) -> int:
        calls.append("first")
        return value + 1

    @worker.task(max_retries=0)
    async def second(value: int) -> int:
        if broken:
            raise ValueError("not now")
        return value * 10

    @worker.task
    async def third(value: int) -> int:
        calls.append(f"third {value}")
        return value

    async with run():
        chain = await (first | second | third).enqueue(1)
        with pytest.raises(JobFailed, match="ValueError: not now"):
            await chain.result(WAIT)
        assert await chain.statuses() == [JobStatus.COMPLETED, JobStatus.FAILED, JobStatus.ABORTED]
        assert await chain.status() is JobStatus.FAILED
        assert (await chain.stages[2].record()).error["message"] == "stage 1 (second) failed"

        broken = False
        dead_letters = await eventually(worker.dead_letters.list, WAIT)
        job_id = await worker.dead_letters.replay(dead_letters[0].id)
        assert await worker.job(job_id).result(WAIT) == 20
        assert await worker.job(f"{job_id}:2").result(WAIT) == 20
    assert calls == ["first", "third 20"]


async def test_a_result_that_does_not_fit_the_next_stage_fails_its_own_stage(worker, run):
    @worker.task
    async def text() -> str:
        return "many"

    @worker.task
    async def number(value: int) -> int:
        return value

    problem = "the result of text does not fit the next stage: task number: parameter"
    async with run():
        chain = await (text | number).enqueue()
        with pytest.raises(JobFailed, match=problem):
            await chain.result(WAIT)
        assert await chain.statuses() == [JobStatus.FAILED, JobStatus.ABORTED]


async def test_a_chain_can_be_aborted(worker, run):
    started = asyncio.Event()

    @worker.task
    async def first() -> int:
        started.set()
        await asyncio.sleep(60)
        return 1

    @worker.task
    async def second(value: int) -> int:
        return value

    async with run():
        chain = await (first | second).enqueue()
        await asyncio.wait_for(started.wait(), WAIT)
        assert await chain.abort(WAIT)
        assert await chain.statuses() == [JobStatus.ABORTED] * 2


async def test_a_stage_that_was_aborted_before_its_turn_stops_the_chain(worker, run):
    go_on = asyncio.Event()

    @worker.task
    async def first() -> int:
        await go_on.wait()
        return 1

    @worker.task
    async def following(value: int) -> int:
        return value

    async with run():
        chain = await (first | following | following).enqueue()
        await eventually(chain.stages[0].status, WAIT)
        assert await chain.stages[1].abort()
        go_on.set()
        with pytest.raises(JobFailed, match="the job was aborted"):
            await chain.result(WAIT)
        assert await chain.stages[0].status() is JobStatus.COMPLETED
        error = (await chain.stages[2].record()).error
        assert error["message"] == "stage 1 (following) was aborted"


@pytest.mark.needs(Promise.DURABLE)
async def test_a_chain_waits_for_a_worker_that_knows_all_its_stages(
    worker, engine_settings, monkeypatch
):
    """During a rolling deploy, only the newer workers know the second stage."""
    monkeypatch.setattr(executor, "UNKNOWN_SECONDS", 0.1)
    engine_settings.task_unknown_period = 60.0
    calls, newer = [], Worker()

    @newer.task
    async def second(value: int) -> int:
        calls.append("second")
        return 2 * value

    @worker.task(max_retries=0)
    async def first() -> int:
        calls.append("first")
        return 21

    newer.tasks["first"] = first
    async with running(worker, engine_settings):
        second._owner = worker
        chain = await (first | second).enqueue()
        stage = chain.stages[0]

        async def is_put_off() -> bool:
            return bool((await stage.record()).unknown_since)

        await eventually(is_put_off, WAIT)
        assert calls == []
        second._owner = newer
        async with newer.open(engine_settings), consuming(newer):
            assert await chain.result(WAIT) == 42
    assert calls == ["first", "second"]


async def test_a_chain_with_an_unknown_stage_fails_before_it_begins(worker, run):
    calls, other = [], Worker()

    @worker.task
    async def first() -> int:
        calls.append("first")
        return 21

    @other.task
    async def second(value: int) -> int:
        return 2 * value

    async with run():
        second._owner = worker
        chain = await (first | second).enqueue()
        problem = "no task named second is registered, which follows first in its chain"
        with pytest.raises(JobFailed, match=problem):
            await chain.result(WAIT)
        assert await chain.statuses() == [JobStatus.FAILED, JobStatus.ABORTED]
        assert calls == []
        worker.tasks["second"] = second
        (letter,) = await eventually(worker.dead_letters.list, WAIT)
        job_id = await worker.dead_letters.replay(letter.id)
        assert await worker.job(f"{job_id}:1").result(WAIT) == 42
    assert calls == ["first"]


@pytest.fixture
def refused(worker, monkeypatch):
    """Return a chain whose first message a function has changed, and which must be refused."""

    @worker.task
    async def first() -> int:
        raise AssertionError("a refused message must not run")

    @worker.task
    async def following(value: int) -> int:
        return value

    async def enqueue(change: Callable[[bytes], bytes]) -> ChainJob[int]:
        dump = worker.queue.signer.dump
        monkeypatch.setattr(worker.queue.signer, "dump", lambda message: change(dump(message)))
        with TaskContext.use(actor="user-1"):
            return await (first | following | following).enqueue()

    return enqueue


def spoil_signature(body: bytes) -> bytes:
    return bytes(SIGNATURE_BYTES) + body[SIGNATURE_BYTES:]


async def test_a_refused_message_stops_its_chain(worker, run, refused):
    async with run():
        chain = await refused(spoil_signature)
        with pytest.raises(JobFailed, match="the signature is not ours"):
            await chain.result(WAIT)
        assert await chain.statuses() == [JobStatus.FAILED, JobStatus.ABORTED, JobStatus.ABORTED]
        record = await chain.stages[2].record()
        assert record.owner == "user-1"
        assert record.error["message"] == "stage 0 (first) failed"


async def test_an_aborted_stage_whose_message_is_refused_stops_its_chain(
    worker, run, refused, engine_settings, monkeypatch
):
    monkeypatch.setattr(executor, "UNKNOWN_SECONDS", 0.5)
    engine_settings.task_unknown_period = 60.0
    async with run():
        chain = await refused(spoil_signature)

        async def is_put_off() -> bool:
            return bool((await chain.stages[0].record()).unknown_since)

        async def is_stopped() -> bool:
            return await chain.statuses() == [JobStatus.ABORTED] * 3

        await eventually(is_put_off, WAIT)
        assert await chain.stages[0].abort()
        await eventually(is_stopped, WAIT)


async def test_a_message_that_cannot_be_read_names_no_stages(worker, run, refused):
    async with run():
        chain = await refused(lambda body: body[:-1])
        with pytest.raises(JobFailed, match="the signature is not ours"):
            await chain.stages[0].result(WAIT)
        assert await chain.statuses() == [JobStatus.FAILED, JobStatus.PENDING, JobStatus.PENDING]


async def test_a_job_that_failed_waits_anew_for_a_newer_worker(worker, run, engine_settings):
    """The period counts from the last time at which no worker that took the job knew its task."""
    engine_settings.task_unknown_period = 60.0

    @worker.task(max_retries=1, retry_delay=30, jitter=False)
    async def broken() -> None:
        raise ValueError("not now")

    async with run():
        handle = await broken.using(delay=1).enqueue()
        await write_record(worker, handle.id, {"unknown_since": 1.0})

        async def is_retried() -> bool:
            return (await handle.record()).attempt == 2

        await eventually(is_retried, WAIT)
        assert (await handle.record()).unknown_since is None

"""A job calls its task's function: arguments, threads and results."""

import asyncio
from datetime import UTC, datetime
from decimal import Decimal
from uuid import UUID

import pytest
from pydantic import BaseModel, ConfigDict

from core.tasks import InvalidArguments, JobFailed, JobStatus
from core.tests.running import WAIT, nest


async def test_a_job_returns_its_result(worker, run):
    @worker.task
    async def add(left: int, right: int = 2) -> int:
        return left + right

    async with run():
        job = await add.enqueue(40)
        assert await job.result(WAIT) == 42
        assert await job.status() is JobStatus.COMPLETED
        assert await worker.job(job.id).result(WAIT) == 42


async def test_arguments_and_results_keep_their_types(worker, run):
    seen = []

    @worker.task
    async def echo(
        when: datetime, key: UUID, price: Decimal, names: list[str] | None = None
    ) -> datetime:
        seen.append((when, key, price, names))
        return when

    when, key = datetime(2027, 1, 1, 12, tzinfo=UTC), UUID(int=7)
    async with run():
        job = await echo.enqueue(when, key=key, price=Decimal("1.10"))
        assert await job.result(WAIT) == when
    assert seen == [(when, key, Decimal("1.10"), None)]


async def test_floats_bytes_and_strict_models_are_valid_arguments(worker, run):
    class Strict(BaseModel):
        model_config = ConfigDict(strict=True)
        when: datetime

    seen = []

    @worker.task
    async def echo(number: float, data: bytes, model: Strict) -> None:
        seen.append((number, data, model))

    sent = (float("-inf"), b"\xff\x00", Strict(when=datetime(2027, 1, 1, tzinfo=UTC)))
    async with run():
        await (await echo.enqueue(*sent)).result(WAIT)
    assert seen == [sent]


async def test_a_plain_function_runs_in_a_thread(worker, run):
    @worker.task
    def blocking(text: str) -> str:
        with pytest.raises(RuntimeError):
            asyncio.get_running_loop()
        return text.upper()

    async with run():
        assert await (await blocking.enqueue("ok")).result(WAIT) == "OK"


@pytest.mark.parametrize("value", [object(), "half a character: \ud800", nest(200)])
async def test_a_result_that_is_not_json_fails_its_job_only(worker, run, value):
    @worker.task
    async def odd() -> object:
        return value

    @worker.task
    async def fine() -> int:
        return 1

    async with run():
        with pytest.raises(JobFailed, match="cannot be kept as JSON"):
            await (await odd.enqueue()).result(WAIT)
        assert await (await fine.enqueue()).result(WAIT) == 1


async def test_many_jobs_are_enqueued_at_once(worker, run):
    @worker.task
    async def double(value: int, plus: int = 0) -> int:
        return 2 * value + plus

    calls = [[1], (2, 5), {"value": 3, "plus": 1}] + [[value] for value in range(600)]
    async with run():
        jobs = await double.enqueue_many(calls)
        assert [await job.result(WAIT) for job in jobs[:3]] == [2, 9, 7]
        assert await jobs[-1].result(WAIT) == 2 * 599
        with pytest.raises(InvalidArguments, match="double: parameter value"):
            await double.enqueue_many([[1], ["many"]])


async def test_many_callers_wait_at_once(worker, run):
    @worker.task
    async def number(value: int) -> int:
        return value

    async with run():
        jobs = await asyncio.gather(*(number.enqueue(value) for value in range(500)))
        results = await asyncio.gather(*(job.result(WAIT) for job in jobs))
        assert results == list(range(500))


async def test_waiting_for_an_unknown_job_times_out(worker, run):
    async with run():
        with pytest.raises(TimeoutError, match="still unknown"):
            await worker.job("nobody").result(0.1)
        assert await worker.job("nobody").status() is JobStatus.UNKNOWN


async def test_a_result_that_is_too_large_fails_its_job(worker, run, engine_settings):
    engine_settings.task_max_result = 1_000
    runs = []

    @worker.task
    async def write(size: int) -> str:
        runs.append(size)
        return "x" * size

    async with run():
        assert await (await write.enqueue(900)).result(WAIT) == "x" * 900
        with pytest.raises(
            JobFailed, match=r"returned 1002 bytes, more than 1000 \(TASK_MAX_RESULT"
        ):
            await (await write.enqueue(1_000)).result(WAIT)
    assert runs == [900, 1_000]  # no second attempt

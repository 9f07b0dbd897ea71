"""Plain functions enqueue jobs from threads, without `await`, and call async functions."""

import asyncio
import threading
from collections.abc import Iterator
from functools import partial

import anyio
import pytest
from fastapi import BackgroundTasks

from core.background import create_background_task
from core.context import TaskContext
from core.database import with_transaction
from core.tasks import (
    InvalidArguments,
    JobFailed,
    JobStatus,
    PermanentError,
    current_job,
    report_progress,
)
from core.testing import eventually
from core.tests.running import WAIT

ANOTHER_LOOP = r"another event loop; use `task\.enqueue_sync`"


@pytest.fixture
def double(worker):
    @worker.task
    async def double(value: int) -> int:
        return 2 * value

    return double


async def test_a_plain_task_enqueues_the_next_one_without_await(worker, run):
    seen = []

    @worker.task
    def step_one(data: dict[str, int]) -> None:
        step_two.delay({**data, "one": 1})

    @worker.task
    def step_two(data: dict[str, int]) -> None:
        step_three.enqueue({**data, "two": 2})

    @worker.task
    def step_three(data: dict[str, int]) -> None:
        seen.append((data, TaskContext.get_correlation_id(), TaskContext.get_actor()))

    async with run():
        with TaskContext.use("request-1", "ada"):
            await step_one.delay({"zero": 0})
        await eventually(lambda: seen, WAIT)
    assert seen == [({"zero": 0, "one": 1, "two": 2}, "request-1", "ada")]


async def test_each_way_to_enqueue_has_a_form_for_plain_functions(worker, run, double):
    @worker.task
    def enqueue_all() -> list[str]:
        jobs = [
            double.enqueue_sync(1),
            double.using(job_id="chosen").enqueue_sync(2),
            *double.enqueue_many_sync([[3], {"value": 4}]),
        ]
        chain = (double | double).enqueue_sync(5)
        delayed = (double | double).delay(6)
        many = double.enqueue_many([[7]])
        bound = double.using(priority="high").delay(8)
        jobs += [chain.stages[-1], delayed.stages[-1], *many, bound]
        return [job.id for job in jobs]

    async with run():
        ids = await (await enqueue_all.enqueue()).result(WAIT)
        assert ids[1] == "chosen"
        results = [await worker.job(job_id).result(WAIT) for job_id in ids]
        assert results == [2, 4, 6, 8, 20, 24, 14, 16]


async def test_a_plain_function_gets_the_errors_of_enqueue(run, double):
    async with run():
        with pytest.raises(InvalidArguments, match="double: parameter value"):
            await asyncio.to_thread(double.enqueue_sync, "many")
    with pytest.raises(RuntimeError, match=r"no service is open here: .* `open_service_sync`"):
        await asyncio.to_thread(double.enqueue_sync, 1)


async def test_a_plain_function_enqueues_as_part_of_a_transaction(run, double):
    async def enqueue(session, is_valid):
        job = await asyncio.to_thread(double.enqueue_sync, 4)
        assert await job.status() is JobStatus.UNKNOWN
        if not is_valid:
            raise PermanentError("rolled back")
        return job

    async with run():
        with pytest.raises(PermanentError, match="rolled back"):
            await with_transaction(partial(enqueue, is_valid=False))
        job = await with_transaction(partial(enqueue, is_valid=True))
        assert await job.result(WAIT) == 8


async def test_code_in_an_event_loop_is_told_to_await(run, double):
    async with run():
        for enqueue in (double.enqueue_sync, (double | double).enqueue_sync):
            with pytest.raises(RuntimeError, match=r"write `await task\.enqueue\(\.\.\.\)`"):
                enqueue(1)
        with pytest.raises(RuntimeError, match="would block the event loop"):
            double.enqueue_many_sync([[1]])


async def test_code_in_another_event_loop_is_told_what_to_use(worker, run, double):
    async def enqueue() -> None:
        await double.enqueue(1)

    async def wait(job_id: str) -> None:
        await worker.job(job_id).result(WAIT)

    @worker.task(max_retries=0)
    def report() -> None:
        asyncio.run(report_progress(1, 2))

    async with run():
        job = await double.enqueue(2)
        for function in (enqueue, partial(wait, job.id)):
            with pytest.raises(RuntimeError, match=ANOTHER_LOOP):
                await asyncio.to_thread(asyncio.run, function())
        assert await job.result(WAIT) == 4
        with pytest.raises(JobFailed, match=ANOTHER_LOOP):
            await (await report.enqueue()).result(WAIT)


async def test_enqueue_is_passed_to_others_as_a_function(worker, run, double):
    background = BackgroundTasks()
    async with run(), asyncio.TaskGroup() as group:
        background.add_task(double.using(job_id="after-the-response").enqueue, 1)
        await background()
        jobs = [
            await create_background_task(double.enqueue, 2),
            await group.create_task(double.enqueue(3)),
            await asyncio.to_thread(double.enqueue, 4),
            await anyio.to_thread.run_sync(anyio.from_thread.run, double.enqueue, 5),
        ]
        assert [await job.result(WAIT) for job in jobs] == [4, 6, 8, 10]
        assert await worker.job("after-the-response").result(WAIT) == 2


async def test_a_plain_task_calls_async_functions(worker, run, double):
    @worker.task
    def counting() -> int:
        anyio.from_thread.run(report_progress, 1, 2, current_job().id)
        assert anyio.from_thread.run_sync(threading.current_thread) is threading.main_thread()
        job = anyio.from_thread.run(double.enqueue, 3)
        return anyio.from_thread.run(job.result, WAIT)

    async with run():
        job = await counting.enqueue()
        assert await job.result(WAIT) == 6
        progress = await job.progress()
        assert (progress.done, progress.total, progress.message) == (1, 2, job.id)


async def test_plain_tasks_that_call_plain_tasks_do_not_wait_for_each_other(
    worker, run, engine_settings
):
    engine_settings.task_concurrency = 2
    both = threading.Barrier(2, timeout=WAIT)

    @worker.task
    def innermost(value: int) -> int:
        return 2 * value

    @worker.task
    def inner(value: int) -> int:
        return anyio.from_thread.run(innermost, value)

    @worker.task(max_retries=0, timeout=WAIT)
    def outer(value: int) -> int:
        both.wait()
        return anyio.from_thread.run(inner, value)

    async with run():
        jobs = await outer.enqueue_many([[1], [2]])
        assert [await job.result(2 * WAIT) for job in jobs] == [2, 4]


async def test_a_generator_of_arguments_runs_in_the_thread_of_its_plain_task(worker, run, double):
    threads = []

    def calls() -> Iterator[list[int]]:
        threads.append(threading.current_thread())
        yield [double.enqueue_sync(1) and 2]

    @worker.task(max_retries=0)
    def enqueue_both() -> list[str]:
        threads.append(threading.current_thread())
        (first,) = double.enqueue_many_sync(calls())
        (second,) = double.enqueue_many(calls())
        return [first.id, second.id]

    async with run():
        ids = await (await enqueue_both.enqueue()).result(WAIT)
        assert [await worker.job(job_id).result(WAIT) for job_id in ids] == [4, 4]
    assert threads == 3 * threads[:1]


async def test_a_thread_that_outlives_its_timeout_holds_no_slot(worker, run, engine_settings):
    engine_settings.task_concurrency = 1
    go_on, ended = threading.Event(), []

    @worker.task
    def quick(value: int) -> int:
        return 2 * value

    @worker.task(max_retries=0, timeout=0.05)
    def slow() -> None:
        go_on.wait()
        ended.append(quick.enqueue_sync(21))

    async with run():
        try:
            await (await slow.enqueue()).wait(WAIT)
            assert await (await quick.enqueue(4)).result(WAIT) == 8
        finally:
            go_on.set()
        await eventually(lambda: ended, WAIT)
        assert await ended[0].result(WAIT) == 42


async def test_a_thread_that_waits_gets_an_error_when_the_service_closes(
    worker, run, double, monkeypatch
):
    is_waiting = asyncio.Event()

    async def wait_forever(envelopes):
        is_waiting.set()
        await asyncio.Event().wait()

    async with run():
        monkeypatch.setattr(worker.queue.engine, "publish", wait_forever)
        portal = worker.portal
        enqueueing = asyncio.create_task(asyncio.to_thread(double.enqueue_sync, 1))
        await asyncio.wait_for(is_waiting.wait(), WAIT)
    with pytest.raises(RuntimeError, match="the service closed while a job was being enqueued"):
        await asyncio.wait_for(enqueueing, WAIT)
    late = partial(portal.run, partial(double.enqueue, 1))
    with pytest.raises(RuntimeError, match="the service is closing"):
        await asyncio.to_thread(late)

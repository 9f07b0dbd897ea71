"""Hooks of failures: each final failure reaches them, and no hook hurts a job or its worker."""

import asyncio
import threading
import time

import pytest
from anyio import to_thread

from core.context import TaskContext
from core.tasks import (
    JobFailed,
    JobFailure,
    JobStatus,
    PermanentError,
    Sensitive,
    failures,
    time_limits,
)
from core.tasks.outcome import Envelope
from core.testing import eventually
from core.tests.running import WAIT
from core.tests.writing import write_record

SECRET = "a-secret-token"


@pytest.fixture
def told(worker) -> list[JobFailure]:
    """The failures that a hook has got."""
    told: list[JobFailure] = []

    @worker.on_failure
    async def note(failure: JobFailure) -> None:
        told.append(failure)

    return told


async def test_a_hook_gets_a_final_failure_after_it_was_recorded(worker, run):
    told, seen = [], []

    @worker.on_failure
    async def note(failure: JobFailure) -> None:
        told.append((await worker.job(failure.job_id).status(), failure))
        seen.append((TaskContext.get_correlation_id(), TaskContext.get_actor()))

    @worker.on_failure
    def note_in_a_thread(failure: JobFailure) -> None:
        told.append((JobStatus.FAILED, failure))

    @worker.task(max_retries=1, retry_delay=0.01)
    async def fragile() -> None:
        raise ValueError("no order")

    async with run():
        with TaskContext.use("request-1", "user-1"):
            job = await fragile.enqueue()
        with pytest.raises(JobFailed):
            await job.result(WAIT)
        await eventually(lambda: len(told) == 2, WAIT)
    assert [status for status, _ in told] == [JobStatus.FAILED] * 2
    failure = told[0][1]
    assert told[1][1] == failure
    assert (failure.job_id, failure.task, failure.attempts) == (job.id, "fragile", 2)
    assert (failure.error_type, failure.error) == ("ValueError", "no order")
    assert "raise ValueError" in failure.traceback
    assert (failure.correlation_id, failure.owner) == ("request-1", "user-1")
    assert seen == [("request-1", "user-1")]


async def test_every_final_failure_reaches_the_hooks(worker, run, told, engine_settings):
    ran = []

    @worker.task(expires=0.01)
    async def urgent() -> None:
        ran.append("urgent")

    @worker.task
    async def work() -> None:
        ran.append("work")

    @worker.task
    async def removed() -> None:
        ran.append("removed")

    async with run():
        queue = worker.queue
        await queue.send([Envelope("refused", b"not signed", {"state": JobStatus.PENDING})])
        later = time.time() + 1
        await work.using(job_id="deadly", delay=1).enqueue()
        await write_record(worker, "deadly", {"deliveries": engine_settings.task_max_deliveries})
        await urgent.using(job_id="late", delay=1).enqueue()
        while time.time() < later + 0.5:  # blocks the loop, so the job starts too late
            time.sleep(0.1)
        await removed.using(job_id="removed", delay=0.5).enqueue()
        del worker.tasks["removed"]
        await eventually(lambda: len(told) == 4, WAIT)
    errors = {failure.job_id: failure.error_type for failure in told}
    assert errors == {
        "refused": "BadMessage",
        "deadly": "PermanentError",
        "late": "JobExpired",
        "removed": "PermanentError",
    }
    tasks = {failure.job_id: failure.task for failure in told}
    assert tasks["refused"] is None
    assert tasks["late"] == "urgent"
    assert ran == []


async def test_other_ends_of_a_run_reach_no_hook(worker, run, told):
    @worker.task(max_retries=1, retry_delay=0.01)
    async def second_time(job: list[int]) -> int:
        seen.append(1)
        if len(seen) == 1:
            raise ValueError
        return 1

    seen: list[int] = []
    async with run():
        assert await (await second_time.enqueue([1])).result(WAIT) == 1
        job = await second_time.using(delay=60).enqueue([1])
        await job.abort()
        assert await job.status() is JobStatus.ABORTED
    assert told == []


async def test_a_hook_gets_no_sensitive_argument(worker, run, told):
    @worker.task(max_retries=0)
    async def log_in(token: Sensitive[str]) -> None:
        raise PermanentError(f"{token} is not valid")

    async with run():
        with pytest.raises(JobFailed):
            await (await log_in.enqueue(SECRET)).result(WAIT)
        (failure,) = await eventually(lambda: told, WAIT)
    assert failure.error.endswith("is not valid")
    assert SECRET not in repr(failure)


async def test_a_broken_hook_hurts_no_job_and_is_logged_once(
    worker, run, told, caplog, monkeypatch
):
    monkeypatch.setattr(failures, "HOOK_SECONDS", 0.2)
    monkeypatch.setattr(time_limits, "CLEANUP_SECONDS", 0.2)
    monkeypatch.setattr(failures, "_failing", set())
    release = asyncio.Event()

    @worker.on_failure
    async def raises(failure: JobFailure) -> None:
        raise ValueError("the hook is broken")

    @worker.on_failure
    async def exits(failure: JobFailure) -> None:
        raise SystemExit(1)

    @worker.on_failure
    async def hangs(failure: JobFailure) -> None:
        while not release.is_set():
            try:
                await release.wait()
            except asyncio.CancelledError:
                continue

    @worker.on_failure
    def sleeps(failure: JobFailure) -> None:
        time.sleep(1)

    @worker.task(max_retries=0)
    async def fails() -> None:
        raise PermanentError("no")

    @worker.task
    async def works() -> str:
        return "done"

    try:
        async with run():
            for _ in range(2):
                with pytest.raises(JobFailed):
                    await (await fails.enqueue()).result(WAIT)
                assert await (await works.enqueue()).result(WAIT) == "done"
            await eventually(lambda: len(told) == 2, WAIT)

            def are_logged() -> bool:
                names = ("raises", "exits", "hangs", "sleeps")
                return all(f"<locals>.{name}" in caplog.text for name in names)

            await eventually(are_logged, WAIT)
    finally:
        release.set()
    lines = [each.getMessage() for each in caplog.records if "hook failed" in each.getMessage()]
    assert len(lines) == 4
    assert any("the hook is broken" in line for line in lines)
    assert sum("the hook took longer than 0.2 s" in line for line in lines) == 2


async def test_a_plain_hook_that_hangs_takes_a_limited_number_of_threads(monkeypatch):
    monkeypatch.setattr(failures, "MAX_THREADS", 2)
    monkeypatch.setattr(failures, "_in_threads", set())
    started, go = [], threading.Event()

    def hangs(value: int) -> None:
        started.append(value)
        go.wait(WAIT)

    try:
        called = [await failures.call_hook(hangs, number, 0.05) for number in range(4)]
    finally:
        go.set()
    assert called == [False] * 4
    assert started == [0, 1]

    async def works() -> bool:
        return await failures.call_hook(hangs, 4, WAIT)

    assert await eventually(works, WAIT)


async def test_plain_hooks_leave_the_threads_of_others_free(monkeypatch):
    others = to_thread.current_default_thread_limiter()
    monkeypatch.setattr(others, "total_tokens", 1)
    async with others:
        assert await failures.call_hook(str, 1, 1.0)


async def test_a_worker_that_ends_waits_for_its_hooks_but_not_for_ever(worker, run, monkeypatch):
    monkeypatch.setattr(failures, "END_SECONDS", 0.5)
    told, cancelled = [], []

    @worker.on_failure
    async def note(failure: JobFailure) -> None:
        await asyncio.sleep(0.1)
        told.append(failure.job_id)

    @worker.on_failure
    async def is_slow(failure: JobFailure) -> None:
        try:
            await asyncio.sleep(3600)
        finally:
            cancelled.append(failure.job_id)

    @worker.task(max_retries=0)
    async def fails() -> None:
        raise PermanentError("no")

    async with asyncio.timeout(WAIT):
        async with run():
            job = await fails.enqueue()
            with pytest.raises(JobFailed):
                await job.result(WAIT)
    assert told == cancelled == [job.id]


async def test_slow_hooks_fill_no_memory(worker, run, caplog, monkeypatch):
    monkeypatch.setattr(failures, "MAX_WAITING", 2)
    told, go = [], asyncio.Event()

    @worker.on_failure
    async def note(failure: JobFailure) -> None:
        await go.wait()
        told.append(failure.job_id)

    @worker.task(max_retries=0)
    async def fails() -> None:
        raise PermanentError("no")

    async with run():
        jobs = [await fails.enqueue() for _ in range(5)]
        for job in jobs:
            with pytest.raises(JobFailed):
                await job.result(WAIT)
        await eventually(lambda: caplog.text.count("a failure was not passed on") == 3, WAIT)
        go.set()
        await eventually(lambda: len(told) == 2, WAIT)
        assert len(await eventually(worker.dead_letters.list, WAIT)) == 5

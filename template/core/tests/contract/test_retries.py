"""Attempts that fail: retries, timeouts and errors."""

import asyncio

import pytest

from core.tasks import JobFailed, JobStatus, PermanentError, TransientError, current_job
from core.tests.running import WAIT


async def test_a_failed_attempt_is_retried(worker, run):
    attempts = []

    @worker.task(max_retries=2, retry_delay=0.01)
    async def flaky() -> str:
        attempts.append((current_job().attempt, current_job().id))
        if len(attempts) < 3:
            raise TransientError("not yet")
        return "done"

    async with run():
        job = await flaky.enqueue()
        assert await job.result(WAIT) == "done"
    assert attempts == [(1, job.id), (2, job.id), (3, job.id)]


async def test_the_last_attempts_error_is_raised(worker, run):
    @worker.task(max_retries=1, retry_delay=0.01)
    async def broken() -> None:
        raise ValueError("the disk is full")

    async with run():
        job = await broken.enqueue()
        with pytest.raises(JobFailed) as failure:
            await job.result(WAIT)
        assert await job.status() is JobStatus.FAILED
    assert (failure.value.type, failure.value.message) == ("ValueError", "the disk is full")
    assert "raise ValueError" in failure.value.traceback


async def test_a_permanent_error_is_not_retried(worker, run):
    calls = []

    @worker.task(max_retries=5)
    async def hopeless() -> None:
        calls.append(1)
        raise PermanentError("no such order")

    async with run():
        with pytest.raises(JobFailed, match="PermanentError: no such order"):
            await (await hopeless.enqueue()).result(WAIT)
    assert calls == [1]


async def test_a_timeout_ends_the_attempt(worker, run):
    @worker.task(max_retries=0, timeout=0.05)
    async def slow() -> None:
        await asyncio.sleep(60)

    async with run():
        with pytest.raises(JobFailed, match="TimeoutError"):
            await (await slow.enqueue()).result(WAIT)


async def test_unusual_exceptions_fail_their_job_only(worker, run):
    @worker.task(max_retries=0)
    async def cancels() -> None:
        subtask = asyncio.create_task(asyncio.sleep(60))
        subtask.cancel()
        await subtask

    @worker.task(max_retries=0)
    async def exits() -> None:
        raise SystemExit(3)

    @worker.task(max_retries=0)
    async def unspeakable() -> None:
        class Odd(Exception):
            def __str__(self) -> str:
                raise ValueError

        raise Odd

    @worker.task
    async def fine() -> int:
        return 1

    expected = [(cancels, "CancelledError"), (exits, "SystemExit: 3"), (unspeakable, "Odd: ")]
    async with run():
        for task, error in expected:
            with pytest.raises(JobFailed, match=error):
                await (await task.enqueue()).result(WAIT)
        assert await (await fine.enqueue()).result(WAIT) == 1

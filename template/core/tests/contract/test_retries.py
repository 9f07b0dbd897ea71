"""Attempts that fail: retries, timeouts and errors."""

import asyncio
import time
from functools import partial
from typing import Any

import pytest

from core.models import DeadLetterModel, RunModel
from core.tasks import (
    Job,
    JobFailed,
    JobStatus,
    PermanentError,
    RetryAfter,
    TransientError,
    Worker,
    current_job,
)
from core.testing import eventually
from core.tests.running import WAIT


async def find_letter(job: Job[Any]) -> DeadLetterModel | None:
    return await DeadLetterModel.find_one(DeadLetterModel.job_id == job.id)


async def find_runs(worker: Worker, job: Job[Any]) -> list[RunModel]:
    """Return the runs of one job. A worker that closes may store more."""
    await worker.history.write()
    return [run for run in await worker.history.list() if run.job_id == job.id]


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


async def test_a_timeout_ends_the_attempt_and_says_so(worker, run, caplog):
    @worker.task(max_retries=0, timeout=0.05)
    async def slow() -> None:
        await asyncio.sleep(60)

    problem = "TimeoutError: the attempt took longer than 0.05 s (timeout)"
    async with run():
        job = await slow.enqueue()
        with pytest.raises(JobFailed) as failure:
            await job.result(WAIT)
        assert f"{failure.value.type}: {failure.value.message}" == problem
        assert "asyncio.sleep(60)" in failure.value.traceback
        letter = await eventually(partial(find_letter, job), WAIT)
        assert letter
        assert f"{letter.error_type}: {letter.error}" == problem
        (failed,) = await find_runs(worker, job)
        assert failed.error == problem
    assert f"error='{problem}'" in caplog.text


async def test_a_timeout_of_the_task_itself_keeps_its_text(worker, run):
    @worker.task(max_retries=0)
    async def impatient(text: str) -> None:
        raise TimeoutError(*text.split())

    async with run():
        for text, shown in (("late", "TimeoutError: late"), ("", "TimeoutError: $")):
            with pytest.raises(JobFailed, match=shown):
                await (await impatient.enqueue(text)).result(WAIT)


async def test_a_delay_without_jitter_is_not_random(worker, run):
    @worker.task(max_retries=1, retry_delay=30, jitter=False)
    async def broken() -> None:
        raise ValueError("no")

    async with run():
        job = await broken.enqueue()
        before = time.time()
        await eventually(partial(is_retried, job), WAIT)
        at = (await job.record()).at
        assert at
        assert before + 30 <= at + 0.001 <= time.time() + 30
        await job.abort()


async def is_retried(job: Job[Any]) -> bool:
    return await job.status() is JobStatus.SCHEDULED


async def test_a_task_says_when_it_runs_again_and_no_attempt_counts(worker, run, caplog):
    caplog.set_level("INFO")
    runs = []

    @worker.task(max_retries=0)
    async def limited() -> str:
        runs.append(current_job().attempt)
        if len(runs) < 3:
            raise RetryAfter(0.01)
        return "done"

    async with run():
        job = await limited.enqueue()
        assert await job.result(WAIT) == "done"
        kept = await find_runs(worker, job)
        assert [(run.ended_as, run.attempt) for run in kept] == [("retried", 1)] * 2
        assert kept[0].error == "RetryAfter: the job asked to run again after 0.01 s"
    assert runs == [1, 1, 1]
    assert "retry_in=0.01" in caplog.text


async def test_a_job_that_runs_again_keeps_its_time_limit(worker, run):
    @worker.task(max_retries=0, expires=30)
    async def limited() -> None:
        raise RetryAfter(60)

    async with run():
        job = await limited.enqueue()
        expired = r"JobExpired: the job asked to run again after 60 s, but it expires earlier"
        with pytest.raises(JobFailed, match=expired):
            await job.result(WAIT)


async def test_a_time_that_is_none_fails_the_attempt(worker, run):
    @worker.task(max_retries=0)
    async def limited(seconds: float | str) -> None:
        raise RetryAfter(seconds)  # type: ignore[arg-type]

    async with run():
        for seconds in (-1, float("inf"), float("nan"), 1e300, "60"):
            job = await limited.enqueue(seconds)
            with pytest.raises(JobFailed, match="ValueError: RetryAfter takes a number of seconds"):
                await job.result(WAIT)


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

"""Plain functions that run in a child process: results, errors, limits and aborts."""

import os
from functools import partial
from pathlib import Path

import pytest

from core.context import TaskContext
from core.tasks import InvalidTask, JobFailed, JobStatus
from core.testing import eventually
from core.tests import children
from core.tests.running import WAIT

START = 3 * WAIT
"""The first child process imports the service."""


def has_ended(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    return False


async def test_a_child_process_has_the_context_of_its_job(worker, run):
    describe = worker.task(process=True)(children.describe)
    async with run():
        with TaskContext.use("request-1", "ada"):
            job = await describe.enqueue("tok-5ecret")
        pid, *context = await job.result(START)
        assert pid != os.getpid()
        assert context == ["request-1", "ada"]
        assert (await describe("directly"))[0] not in (pid, os.getpid())


@pytest.mark.parametrize(
    ("how", "problem"),
    [
        ("killed", "ChildProcessError: the child process ended with status -9; a negative"),
        ("exited", "ChildProcessError: the child process ended with status 3"),
        ("memory", "MemoryError"),
        ("permanent", "PermanentError: no such order"),
        ("unpicklable", "RuntimeError: .*Unpicklable: no such disk"),
    ],
)
async def test_a_child_process_that_fails_is_a_failed_attempt(worker, run, how, problem):
    fail = worker.task(process=True, max_retries=0, memory_limit=10**8)(children.fail)
    async with run():
        with pytest.raises(JobFailed, match=f"(?s){problem}") as failure:
            await (await fail.enqueue(how)).result(START)
        if how in ("memory", "permanent"):
            assert "in fail" in failure.value.traceback


async def test_a_function_in_a_child_process_says_when_it_runs_again(worker, run):
    fail = worker.task(process=True, max_retries=0)(children.fail)
    async with run():
        job = await fail.enqueue("later")

        async def is_postponed() -> bool:
            return await job.status() is JobStatus.SCHEDULED

        await eventually(is_postponed, START)
        assert await job.abort()


@pytest.mark.parametrize("ends_by", ["timeout", "abort"])
async def test_a_child_process_is_killed(worker, run, tmp_path: Path, ends_by):
    timeout = 2 if ends_by == "timeout" else None
    describe = worker.task(process=True)(children.describe)
    hang = worker.task(process=True, max_retries=0, timeout=timeout)(children.hang)
    path = tmp_path / "pid"
    async with run():
        await describe("first")  # starts the process from which the others are forked
        job = await hang.enqueue(str(path))
        pid = int(await eventually(lambda: path.exists() and path.read_text(), START))
        if ends_by == "abort":
            assert await job.abort(WAIT)
        with pytest.raises(JobFailed, match="aborted" if ends_by == "abort" else "timeout"):
            await job.result(WAIT)
        await eventually(partial(has_ended, pid), WAIT)


async def test_a_task_of_a_child_process_is_a_plain_function_of_a_module(worker):
    def inner() -> None: ...

    async def coroutine() -> None: ...

    for function in (inner, coroutine):
        with pytest.raises(InvalidTask, match="process=True takes a plain function of a module"):
            worker.task(process=True)(function)

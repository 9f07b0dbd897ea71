"""Background tasks: ids are carried, failures are logged, and shutdown waits for them."""

import asyncio
import logging
import threading

import pytest

from core.background import create_background_task, drain_background_tasks, run_background_task
from core.context import TaskContext


async def current_id() -> str | None:
    await asyncio.sleep(0)
    return TaskContext.get_correlation_id()


async def test_the_id_of_the_caller_is_carried():
    with TaskContext.use("request-1"):
        assert await run_background_task(current_id) == "request-1"
        task = create_background_task(current_id)
    assert TaskContext.get_correlation_id() is None
    assert await task == "request-1"


async def test_an_id_can_be_given_and_is_otherwise_created():
    assert await create_background_task(current_id, correlation_id="given") == "given"
    assert await run_background_task(current_id)


async def test_a_plain_function_runs_in_a_thread():
    def describe(prefix: str, *, suffix: str) -> str:
        assert threading.current_thread() is not threading.main_thread()
        return f"{prefix} {TaskContext.get_correlation_id()} {suffix}"

    with TaskContext.use("request-2"):
        assert await run_background_task(describe, "a", suffix="z") == "a request-2 z"


async def test_a_failure_is_logged_and_raised(caplog):
    async def fail() -> None:
        raise ValueError("no such file")

    with caplog.at_level(logging.ERROR):
        task = create_background_task(fail)
        await asyncio.wait([task])
        assert "background task failed" in caplog.text
        with pytest.raises(ValueError, match="no such file"):
            await run_background_task(fail)


async def test_shutdown_waits_and_then_cancels():
    done = []

    async def work(is_quick: bool) -> None:
        await asyncio.sleep(0 if is_quick else 60)
        done.append(is_quick)

    quick, endless = create_background_task(work, True), create_background_task(work, False)
    await drain_background_tasks(timeout=0.1)
    assert done == [True]
    assert quick.done()
    assert endless.cancelled()

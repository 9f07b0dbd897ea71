"""A chain reports the error of the stage that stopped it, on each engine."""

import asyncio

import pytest

from core.tasks import JobFailed, JobStatus
from core.testing import eventually

WAIT = 10


async def test_the_cause_is_reported_while_its_stage_is_still_being_settled(
    worker, run, monkeypatch
):
    """The later stages are aborted first. Their error must not be taken for the cause."""

    @worker.task(max_retries=0)
    async def first() -> int:
        raise ValueError("not now")

    @worker.task
    async def second(value: int) -> int:
        return value

    async with run():
        records = worker.queue.engine.records
        stash, settled = records.stash, asyncio.Event()

        async def stash_late(*arguments):
            await settled.wait()
            await stash(*arguments)

        monkeypatch.setattr(records, "stash", stash_late)
        chain = await (first | second).enqueue()
        last = chain.stages[-1]

        async def is_aborted() -> bool:
            return await last.status() is JobStatus.ABORTED

        await eventually(is_aborted, WAIT)
        assert await chain.stages[0].status() is JobStatus.RUNNING
        result = asyncio.create_task(chain.result(WAIT))
        await asyncio.wait([result], timeout=0.2)
        settled.set()
        with pytest.raises(JobFailed, match="ValueError: not now"):
            await result

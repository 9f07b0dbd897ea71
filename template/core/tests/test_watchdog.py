"""A worker that does not work any more is noticed, and says where it is stuck."""

import asyncio
import time

from core.tasks import upkeep
from core.tasks.engine import Stats

WAIT = 10


async def test_a_blocked_event_loop_is_told_with_the_call_that_blocks_it(worker, run, caplog):
    @worker.task
    async def rude() -> str:
        time.sleep(2.5)  # what it must not do
        return "done"

    async with run():
        assert worker.problem is None
        assert await (await rude.enqueue()).result(WAIT) == "done"
        async with asyncio.timeout(WAIT):
            while "worker works again" not in caplog.text:
                await asyncio.sleep(0.05)
        assert worker.problem is None
    assert "the event loop has been blocked for" in caplog.text
    assert "time.sleep(2.5)" in caplog.text
    assert worker.problem is None


async def test_a_worker_that_takes_no_jobs_although_it_could_is_told(worker, run, monkeypatch):
    monkeypatch.setattr(upkeep, "CHECK_SECONDS", 0.05)
    monkeypatch.setattr("core.tasks.watchdog.STALLED_SECONDS", 0.3)

    @worker.task
    async def simple() -> str:
        return "done"

    async def full() -> Stats:
        return Stats(pending=3, running=0, scheduled=0, oldest=20.0)

    async with run(), asyncio.timeout(WAIT):
        await (await simple.enqueue()).result()
        await asyncio.sleep(0.5)
        assert worker.problem is None  # nothing waits
        # A wedged engine cannot be had at will: this one has jobs that nobody takes.
        monkeypatch.setattr(worker.queue.engine, "stats", full)
        while worker.problem is None:
            await asyncio.sleep(0.05)
        assert "took no job for" in worker.problem
        await (await simple.enqueue()).result()  # it takes one
        while worker.problem is not None:
            await asyncio.sleep(0.05)

"""The watchdog notices a stuck worker, and logs the cause."""

import faulthandler
import math
import threading
import time

from core.tasks import upkeep, watchdog
from core.tasks.engine import Stats
from core.testing import eventually
from core.tests.running import WAIT


async def test_a_blocked_event_loop_is_logged_with_the_blocking_call(worker, run, caplog):
    @worker.task
    async def rude() -> str:
        give_up = time.monotonic() + WAIT
        while "worker is stuck" not in caplog.text and time.monotonic() < give_up:
            time.sleep(0.2)  # a task must not do this
        return "done"

    async with run():
        assert worker.problem is None
        assert await (await rude.enqueue()).result(2 * WAIT) == "done"
        await eventually(lambda: "worker works again" in caplog.text, WAIT)
        assert worker.problem is None
    assert "the event loop has been blocked for" in caplog.text
    assert "time.sleep(0.2)" in caplog.text
    assert worker.problem is None


async def test_a_job_that_blocks_is_blamed_and_named(worker, run, caplog, monkeypatch):
    monkeypatch.setattr(watchdog, "BLAME_SECONDS", 0.1)
    blamed = threading.Event()

    def note(job_id: str) -> None:
        blame(job_id)
        blamed.set()

    @worker.task
    async def innocent() -> None:
        await eventually(lambda: "worker works again" in caplog.text, 2 * WAIT)

    @worker.task
    async def rude() -> None:
        await eventually(lambda: worker._opened.executor.running == 3, WAIT)
        assert blamed.wait(WAIT)

    async with run():
        records = worker.queue.engine.records
        blame = records.blame
        monkeypatch.setattr(records, "blame", note)
        others = await innocent.enqueue_many([[], []])
        job = await rude.enqueue()
        assert (await job.wait(2 * WAIT)).blocked == 1
        for other in others:
            assert (await other.wait(WAIT)).blocked == 0
    stuck = [message for message in caplog.messages if "worker is stuck" in message]
    assert job.id in stuck[0]


async def test_the_limit_of_a_stuck_worker_may_be_infinite(worker, run):
    async with run():
        watching = worker._opened.watchdog
        watching._limit = math.inf
        try:
            watching._set_alarm()
        finally:
            faulthandler.cancel_dump_traceback_later()


async def test_a_worker_that_takes_no_pending_jobs_is_stuck(worker, run, monkeypatch):
    stalled_seconds = 0.3
    monkeypatch.setattr(upkeep, "CHECK_SECONDS", 0.05)
    monkeypatch.setattr("core.tasks.watchdog.STALLED_SECONDS", stalled_seconds)

    @worker.task
    async def simple() -> str:
        return "done"

    async def full() -> Stats:
        return Stats(pending=3, running=0, scheduled=0, oldest=20.0)

    async with run():
        await (await simple.enqueue()).result(WAIT)
        watching = worker._opened.watchdog
        await eventually(lambda: watching._idle_seconds() > stalled_seconds, WAIT)
        await watching.check_taking()
        assert worker.problem is None  # no job is pending
        # A wedged engine cannot be had at will. This one has jobs that nobody takes.
        monkeypatch.setattr(worker.queue.engine, "stats", full)
        problem = await eventually(lambda: worker.problem, WAIT)
        assert "took no job for" in problem

        async def works_again() -> bool:
            await (await simple.enqueue()).result(WAIT)
            return worker.problem is None

        await eventually(works_again, WAIT)

"""A queue's server that hangs, or swallows everything, or whose callers give up."""

import asyncio
import os
import signal
from contextlib import suppress

import pytest

from core.dev.servers import HOST
from core.tasks import JobStatus, QueueUnavailable, current_job, report_progress
from core.tasks.engine import Promise
from core.testing import eventually
from core.tests.queue_servers import Proxy
from core.tests.running import WAIT, running

HANG_SECONDS = 4
CALLS = 2_000
LARGEST_NUMBER_OF_CONNECTIONS = 50


@pytest.mark.only("redis")
async def test_a_server_that_hung_is_used_again_at_once(worker, engine_settings, server):
    @worker.task
    async def fine() -> str:
        return "done"

    _, process = server
    async with running(worker, engine_settings):
        job = await fine.enqueue()
        assert await job.result(WAIT) == "done"
        process.send_signal(signal.SIGSTOP)
        os.waitpid(process.pid, os.WUNTRACED)  # until it has stopped
        reads = [asyncio.create_task(job.status()) for _ in range(100)]
        await asyncio.sleep(HANG_SECONDS)
        process.send_signal(signal.SIGCONT)
        answers = await asyncio.gather(*reads, return_exceptions=True)
        assert {type(answer) for answer in answers} == {QueueUnavailable}
        assert await job.status() is JobStatus.COMPLETED
        assert await (await fine.enqueue()).result(WAIT) == "done"


@pytest.mark.only("redis")
async def test_a_connection_that_swallows_everything_costs_no_call_for_ever(
    worker, engine_settings, server
):
    @worker.task
    async def fine() -> str:
        return "done"

    port, _ = server
    async with Proxy(port).running() as proxy:
        engine_settings.redis_url = f"redis://127.0.0.1:{proxy.port}/0"
        async with running(worker, engine_settings):
            job = await fine.enqueue()
            assert await job.result(WAIT) == "done"
            proxy.swallows = True
            async with asyncio.timeout(WAIT):
                calls = [fine.enqueue() for _ in range(50)]
                answers = await asyncio.gather(*calls, return_exceptions=True)
            assert {type(answer) for answer in answers} == {QueueUnavailable}
            proxy.swallows = False
            assert await (await fine.enqueue()).result(WAIT) == "done"


async def count_clients(port: int) -> int:
    """Return the number of the server's connections. Some variants have no package for it."""
    reader, writer = await asyncio.open_connection(HOST, port)
    writer.write(b"INFO clients\r\n")
    await reader.readuntil(b"connected_clients:")
    number = int(await reader.readline())
    writer.close()
    return number


@pytest.mark.only("redis")
async def test_cancelled_calls_use_nothing_up(worker, engine_settings, server):
    @worker.task
    async def fine() -> str:
        return "done"

    port, _ = server

    async def call_and_give_up(number: int) -> None:
        calling = fine.enqueue() if number < CALLS / 10 else job.status()
        task = asyncio.ensure_future(calling)
        await asyncio.sleep(number % 10 / 1000)  # before, during and after the call
        task.cancel()
        await asyncio.wait([task])

    async with running(worker, engine_settings):
        job = await fine.enqueue()
        await job.result(WAIT)
        for start in range(0, CALLS, 100):
            await asyncio.gather(*map(call_and_give_up, range(start, start + 100)))
        assert await job.status() is JobStatus.COMPLETED
        assert await (await fine.enqueue()).result(WAIT) == "done"

        async def are_few() -> bool:
            return await count_clients(port) < LARGEST_NUMBER_OF_CONNECTIONS

        await eventually(are_few, WAIT)


@pytest.mark.needs(Promise.SERVER_RESTART)
@pytest.mark.parametrize("ending", [JobStatus.COMPLETED, JobStatus.FAILED])
async def test_an_outage_at_the_end_of_a_stage_delays_its_chain(
    worker, engine_settings, server, ending
):
    """No stage runs twice, starts twice, or stays pending."""
    calls = []
    port, _ = server
    proxy = Proxy(port)

    @worker.task(max_retries=0)
    async def first() -> int:
        calls.append("first")
        proxy.swallows = True
        if ending is JobStatus.FAILED:
            raise ValueError("not now")
        return 1

    @worker.task
    async def second(value: int) -> None:
        calls.append("second")

    async def is_down() -> bool:
        return bool(calls) and not worker.queue.engine.takes_jobs

    async with proxy.running():
        engine_settings.redis_url = f"redis://127.0.0.1:{proxy.port}/0"
        async with running(worker, engine_settings):
            chain = await (first | second).enqueue()
            await eventually(is_down, WAIT)
            proxy.swallows = False
            record = await chain.stages[1].wait(WAIT)
            assert await chain.stages[0].status() is ending
            stats = await worker.queue.engine.stats()
            assert (stats.pending, stats.running, stats.scheduled) == (0, 0, 0)
    if ending is JobStatus.COMPLETED:
        assert record.status is JobStatus.COMPLETED
        assert calls == ["first", "second"]
    else:
        assert record.status is JobStatus.ABORTED
        assert calls == ["first"]


@pytest.mark.only("redis")
async def test_an_outage_while_a_job_reports_its_progress_fails_no_job(
    worker, engine_settings, server, monkeypatch, caplog
):
    monkeypatch.setattr("core.tasks.current.PROGRESS_SECONDS", 0)
    monkeypatch.setattr("core.tasks.current.OUTAGE_SECONDS", 0)
    reported = []
    seen = asyncio.Event()
    port, _ = server
    proxy = Proxy(port)

    @worker.task(max_retries=0)
    async def counting() -> str:
        proxy.swallows = True
        for number in (1, 2):
            await report_progress(number, 9)
            reported.append(number)
        proxy.swallows = False
        while not seen.is_set():
            await current_job().progress(5, 9)
            await asyncio.sleep(0.02)
        return "done"

    async def is_known() -> bool:
        with suppress(QueueUnavailable):
            progress = await job.progress()
            return progress is not None and progress.done == 5
        return False

    async with proxy.running():
        engine_settings.redis_url = f"redis://127.0.0.1:{proxy.port}/0"
        async with running(worker, engine_settings):
            job = await counting.enqueue()
            await eventually(is_known, WAIT)
            seen.set()
            assert await job.result(WAIT) == "done"
    assert reported == [1, 2]
    assert caplog.text.count("progress is lost") == 1


async def test_a_job_waits_for_few_of_its_reports_in_an_outage(worker, run, monkeypatch):
    calls = []
    monkeypatch.setattr("core.tasks.current.PROGRESS_SECONDS", 0)

    @worker.task(max_retries=0)
    async def counting() -> str:
        async def fail(*report: object) -> None:
            calls.append(report)
            raise QueueUnavailable("no server")

        monkeypatch.setattr(worker.queue, "write_progress", fail)
        for number in range(100):
            await report_progress(number, 100)
        await report_progress(100, 100)
        return "done"

    async with run():
        assert await (await counting.enqueue()).result(WAIT) == "done"
    assert len(calls) == 2

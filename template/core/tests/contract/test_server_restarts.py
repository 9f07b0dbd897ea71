"""The queue's server ends and starts again, with its data or without it."""

import asyncio
import shutil
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

import pytest

from core.config import Settings
from core.dev.servers import VALKEY, start_server
from core.tasks import JobStatus, QueueUnavailable, Worker
from core.tasks.engine import Promise
from core.testing import eventually
from core.tests.running import WAIT, running

COUNT = 20


@contextmanager
def restarted(server, folder: Path, keeps_data: bool) -> Iterator[None]:
    """Restart the queue's server. The new server runs for the block."""
    port, process = server
    data = folder / f"valkey-{port}"
    process.kill()
    process.wait()
    if not keeps_data:
        shutil.rmtree(data)
    process = start_server(VALKEY, data, port)
    try:
        yield
    finally:
        process.kill()
        process.wait()


async def run_jobs_through_a_restart(
    worker: Worker,
    settings: Settings,
    server,
    folder: Path,
    keeps_data: bool,
) -> None:
    """Restart the server while one job runs and others are pending or scheduled."""
    settings.task_concurrency = 1
    started, go_on = asyncio.Event(), asyncio.Event()
    ran = []

    @worker.task
    async def slow() -> None:
        started.set()
        await go_on.wait()

    @worker.task
    async def fine(number: int) -> None:
        ran.append(number)

    async def have_ended() -> bool:
        with suppress(QueueUnavailable):  # a connection to the old server may still be open
            statuses = {await job.status() for job in jobs}
            return statuses == {JobStatus.COMPLETED}
        return False

    with ExitStack() as new_server:
        async with running(worker, settings):
            jobs = [await slow.enqueue()]
            await asyncio.wait_for(started.wait(), WAIT)
            jobs += await fine.enqueue_many([[number] for number in range(COUNT)])
            jobs.append(await fine.using(delay=1).enqueue(COUNT))
            new_server.enter_context(restarted(server, folder, keeps_data))
            go_on.set()
            await eventually(have_ended, 2 * WAIT)
    assert sorted(ran) == list(range(COUNT + 1))


@pytest.mark.needs(Promise.SERVER_RESTART)
async def test_jobs_survive_a_restart_of_the_server(worker, engine_settings, server, tmp_path):
    await run_jobs_through_a_restart(worker, engine_settings, server, tmp_path, keeps_data=True)


@pytest.mark.needs(Promise.SERVER_DATA_LOSS)
async def test_jobs_survive_the_loss_of_the_servers_data(worker, engine_settings, server, tmp_path):
    await run_jobs_through_a_restart(worker, engine_settings, server, tmp_path, keeps_data=False)


@pytest.mark.needs(Promise.SERVER_OUTAGE)
async def test_jobs_are_accepted_while_the_server_is_down(
    worker, engine_settings, server, tmp_path
):
    _, process = server

    @worker.task
    async def fine() -> int:
        return 1

    with ExitStack() as new_server:
        async with running(worker, engine_settings):
            await (await fine.enqueue()).result(WAIT)
            process.kill()
            process.wait()
            job = await fine.enqueue()
            later = await fine.using(delay=0.1).enqueue()
            assert await job.status() is JobStatus.PENDING
            new_server.enter_context(restarted(server, tmp_path, keeps_data=True))
            assert await job.result(2 * WAIT) == 1
            assert await later.result(2 * WAIT) == 1

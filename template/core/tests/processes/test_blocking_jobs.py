"""A job that blocks the event loop takes no other job with it, and does not stop the workers."""

import asyncio
import os
import sys
from asyncio.subprocess import Process
from pathlib import Path

import pytest

from core.config import ROOT, Settings
from core.entry import Service, open_service
from core.tasks import JobStatus, Worker
from core.tasks.engines import DEFAULT
from core.testing import empty, eventually
from core.tests.running import WAIT

pytestmark = pytest.mark.skipif(DEFAULT == "local", reason="there is no worker process")

INNOCENT = 20
WORKERS = 2

SERVICE = """
import asyncio
import time
from pathlib import Path
from core.entry import Service
from core.tasks import Worker
from core.tasks.engines.{engine} import consumer

# Soon after a worker has ended, the other one takes its jobs.
consumer.IDLE_SECONDS = 6
consumer.BEAT_SECONDS = 1
consumer.RECOVER_SECONDS = 0.3
worker = Worker()

@worker.task
async def innocent() -> None:
    await asyncio.sleep(1)

@worker.task
async def rude(marks: str) -> None:
    with (Path(marks) / "rude").open("a") as file:
        file.write("began\\n")
    time.sleep(3600)

service = Service([], [], worker)
"""


async def keep_running(environment: dict[str, str], processes: list[Process]) -> None:
    """Run a worker, and start another one when it has ended, as a supervisor does."""
    while True:
        command = (sys.executable, "-m", "core", "worker")
        process = await asyncio.create_subprocess_exec(*command, cwd=ROOT, env=environment)
        processes.append(process)
        assert await process.wait() == os.EX_SOFTWARE


async def test_innocent_jobs_end_beside_one_that_blocks(settings: Settings, tmp_path: Path):
    (tmp_path / "blocking.py").write_text(SERVICE.format(engine=DEFAULT))
    environment = {
        **os.environ,
        "ENVIRONMENT": "production",
        "PUBLIC_URL": "https://example.com",
        "MAIL_FROM": "no-reply@example.com",
        "SERVICE": "blocking:service",
        "PYTHONPATH": f"{tmp_path}:{ROOT}",
        "TASK_ENGINE": DEFAULT,
        "TASK_STUCK_LIMIT": "2",
    }
    worker = Worker()

    @worker.task
    async def innocent() -> None: ...

    @worker.task
    async def rude(marks: str) -> None: ...

    settings = settings.model_copy(update={"task_engine": DEFAULT})
    processes: list[Process] = []
    supervisors = []
    try:
        async with open_service(Service([], [], worker), settings):
            jobs = await innocent.enqueue_many([[]] * INNOCENT)
            blocking = await rude.enqueue(str(tmp_path))
            supervisors = [
                asyncio.create_task(keep_running(environment, processes)) for _ in range(WORKERS)
            ]

            async def have_ended() -> bool:
                assert not any(supervisor.done() for supervisor in supervisors)
                records = [await job.record() for job in [*jobs, blocking]]
                return all(record.state.is_final for record in records)

            await eventually(have_ended, 3 * WAIT)
            for job in jobs:
                record = await job.record()
                assert record.state is JobStatus.COMPLETED
                assert record.attempt == 1
            record = await blocking.record()
            assert record.error
            assert "blocked the event loop of its worker twice" in record.error["message"]

            async def is_moved() -> int:
                return await worker.dead_letters.count()

            assert await eventually(is_moved, WAIT) == 1
            assert (tmp_path / "rude").read_text() == "began\n" * 2
            assert len(processes) <= WORKERS + 2
    finally:
        for supervisor in supervisors:
            supervisor.cancel()
        for process in processes:
            if process.returncode is None:
                process.kill()
                await process.wait()
        await empty(settings)

"""A log that nobody reads: jobs go on, and lines are dropped and counted."""

import asyncio
import json
import os
import sys
from pathlib import Path

import pytest

from core.config import ROOT, Settings
from core.entry import Service, open_service
from core.logging.stderr import MAX_CHARACTERS
from core.tasks import Worker
from core.tasks.engines import DEFAULT
from core.testing import empty
from core.tests.processes.test_log_lines import log
from core.tests.running import WAIT

SERVICE = """
from core.entry import Service
from core.logging import get_logger
from core.tasks import Worker

worker = Worker()

@worker.task
async def talk(lines: int) -> None:
    for _ in range(lines):
        get_logger("app").info("x" * 1000)

service = Service([], [], worker)
"""


@pytest.mark.skipif(DEFAULT == "local", reason="there is no worker process")
async def test_jobs_go_on_while_nobody_reads_the_log(settings: Settings, tmp_path: Path):
    (tmp_path / "talking.py").write_text(SERVICE)
    environment = {
        **os.environ,
        "SERVICE": "talking:service",
        "PYTHONPATH": f"{tmp_path}:{ROOT}",
        "TASK_ENGINE": DEFAULT,
        "LOG_FORMAT": "json",
    }
    worker = Worker()

    @worker.task
    async def talk(lines: int) -> None: ...

    async with open_service(
        Service([], [], worker), settings.model_copy(update={"task_engine": DEFAULT})
    ):
        reader, writer = os.pipe()
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "core", "worker"), cwd=ROOT, env=environment, stderr=writer
        )
        os.close(writer)
        try:
            jobs = 20
            lines = 2 * MAX_CHARACTERS // 1000 // jobs
            for job in await talk.enqueue_many([[lines]] * jobs):
                await job.result(2 * WAIT)
            with open(reader, closefd=False) as pipe:

                def find_dropped() -> int:
                    for line in pipe:
                        event = json.loads(line)
                        if event["event"] == "log lines dropped: nobody read them":
                            return int(event["count"])
                    return 0

                dropped = await asyncio.to_thread(find_dropped)
            assert jobs * lines // 4 < dropped < jobs * lines
        finally:
            process.kill()
            await process.wait()
            os.close(reader)
    await empty(settings)


FORKED = """
import multiprocessing
from core.config import get_settings
from core.logging import configure_logging, get_logger

configure_logging(get_settings(), "worker")

def work() -> None:
    get_logger("app").info("child")

get_logger("app").info("parent")
child = multiprocessing.get_context("fork").Process(target=work)
child.start()
child.join()
"""


def test_every_line_is_written_at_the_end_of_a_process(root):
    lines = log(root, FORKED, LOG_FORMAT="json")
    assert {json.loads(line)["event"] for line in lines} == {"parent", "child"}

"""A stuck worker process reports it, and ends itself in production."""

import os
import subprocess
import sys
import time
from pathlib import Path

import httpx2
import pytest
from prometheus_client import generate_latest

from core.config import Settings
from core.dev.servers import free_port  # noqa: TID251
from core.tasks import Worker
from core.tasks.engines import DEFAULT  # noqa: TID251

SECONDS = 60
SERVICE = """
import time

from core.entry import Service
from core.tasks.worker import worker


@worker.task
async def polite() -> None: ...


@worker.task
async def rude() -> None:
    time.sleep(60)


service = Service([], [], worker)
"""


@pytest.mark.skipif(
    DEFAULT == "local", reason="the job queue is off, so there is no worker process"
)
async def test_a_worker_whose_event_loop_is_blocked(settings: Settings, tmp_path):
    (tmp_path / "stuck.py").write_text(SERVICE)
    port = free_port()
    environment = {
        **os.environ,
        "PYTHONPATH": f"{tmp_path}:{Path.cwd()}",
        "SERVICE": "stuck:service",
        "ENVIRONMENT": "production",
        "MAIL_FROM": "me@example.com",
        "PUBLIC_URL": "https://example.com",
        "BLOB_URL": str(tmp_path / "blobs"),
        "TASK_ENGINE": DEFAULT,
        "TASK_STUCK_LIMIT": "2",
        "WORKER_PORT": str(port),
    }
    with (tmp_path / "log").open("w+") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "core", "worker"], env=environment, stderr=log
        )
        try:
            assert _wait_for(port, 200).json() == {"status": "ok"}
            worker = Worker()

            @worker.task
            async def polite() -> None: ...

            @worker.task
            async def rude() -> None: ...

            async with worker.open(settings.model_copy(update={"task_engine": DEFAULT})):
                # The worker counts its jobs. This process, which enqueues them, does not.
                await (await polite.enqueue()).result(SECONDS)
                counted = 'jobs_total{ended_as="completed",task="polite"} 1.0'
                assert counted in httpx2.get(f"http://127.0.0.1:{port}/metrics").text
                assert 'task="polite"' not in generate_latest().decode()

                job = await rude.enqueue()
                assert "event loop has been blocked" in _wait_for(port, 503).json()["problem"]
                assert process.wait(SECONDS) == os.EX_SOFTWARE
                # The job is not lost, and its delivery was counted.
                assert (await job.record()).deliveries == 1
        finally:
            process.kill()
        log.seek(0)
        assert "time.sleep(60)" in log.read()


def _wait_for(port: int, status: int) -> httpx2.Response:
    deadline = time.monotonic() + SECONDS
    while True:
        try:
            if (
                response := httpx2.get(f"http://127.0.0.1:{port}/health/live")
            ).status_code == status:
                return response
        except httpx2.TransportError:
            pass  # it has not started yet
        assert time.monotonic() < deadline
        time.sleep(0.1)

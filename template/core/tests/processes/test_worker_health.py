"""The health checks of a worker process."""

import subprocess
import sys
from http import HTTPStatus
from http.client import HTTPConnection
from pathlib import Path

import pytest

from core.dev.servers import HOST, free_port, is_listening
from core.tasks.engines import DEFAULT
from core.testing import eventually
from core.tests.processes.conftest import environment
from core.tests.running import WAIT


def ask(port: int, path: str) -> int:
    connection = HTTPConnection(HOST, port, timeout=WAIT)
    connection.request("GET", path)
    return connection.getresponse().status


@pytest.mark.skipif(DEFAULT == "local", reason="the job queue is off, so there is no worker")
async def test_a_worker_that_cannot_take_jobs_is_alive_but_not_ready(root: Path, elsewhere: Path):
    """None of its servers is up."""
    port = free_port()
    process = subprocess.Popen(
        [sys.executable, "-m", "core", "worker"],
        cwd=elsewhere,
        env=environment(root, WORKER_PORT=str(port)),
        stderr=subprocess.DEVNULL,
    )
    try:
        await eventually(lambda: is_listening(port), 2 * WAIT)
        assert ask(port, "/health/live") == HTTPStatus.OK
        assert ask(port, "/health/ready") == HTTPStatus.SERVICE_UNAVAILABLE
    finally:
        process.terminate()
        process.wait()

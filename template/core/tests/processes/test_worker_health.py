"""The health checks of a worker process."""

import socket
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


@pytest.mark.skipif(DEFAULT == "local", reason="the job queue is off, so there is no worker")
@pytest.mark.parametrize("processes", ["1", "2"])
def test_a_port_that_is_taken_is_named(root: Path, elsewhere: Path, processes: str):
    with socket.create_server((HOST, 0)) as other:
        port = other.getsockname()[1]
        done = subprocess.run(
            [sys.executable, "-m", "core", "worker", "--processes", processes],
            cwd=elsewhere,
            env=environment(root, WORKER_PORT=str(port)),
            capture_output=True,
            text=True,
            timeout=2 * WAIT,
        )
    assert done.returncode == 2
    assert f"the worker cannot listen on {HOST}:{port} (Address already in use)" in done.stderr
    assert "Traceback" not in done.stderr

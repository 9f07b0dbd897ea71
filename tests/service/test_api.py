"""No request to the API ends in a server error: schemathesis against a real web process."""

import os
import subprocess
import sys
from collections.abc import Iterator

import httpx2
import pytest

from core.dev.servers import free_port  # noqa: TID251
from core.models import UserModel
from core.services.sessions import start_session  # noqa: TID251
from core.tasks.engines import DEFAULT  # noqa: TID251
from core.testing import eventually
from core.web.auth import COOKIE  # noqa: TID251

EXAMPLES = 60
"""The number of requests for each operation in each phase."""


@pytest.fixture
def web(settings) -> Iterator[str]:
    port = free_port()
    environment = {**os.environ, "PORT": str(port), "LOG_LEVEL": "WARNING"}
    process = subprocess.Popen([sys.executable, "-m", "core", "web"], env=environment)
    yield f"http://127.0.0.1:{port}"
    process.terminate()
    process.wait(30)


async def is_ready(base: str) -> bool:
    try:
        async with httpx2.AsyncClient(base_url=base) as client:
            return (await client.get("/health/ready")).status_code == 200
    except httpx2.TransportError:
        return False


needs_no_queue = pytest.mark.skipif(
    DEFAULT != "local",
    reason="an administrator reaches everything that depends on the variant",
)


@pytest.mark.parametrize("as_admin", [pytest.param(False, marks=needs_no_queue), True])
async def test_no_request_ends_in_a_server_error(web, user, running_worker, tmp_path, as_admin):
    await eventually(lambda: is_ready(web), 30)
    options = []
    if as_admin:
        await user.set({UserModel.is_admin: True})
        # Logging out would end the session that the other requests need.
        options = [
            "--header",
            f"Cookie: {COOKIE}={await start_session(user)}",
            "--exclude-path",
            "/logout",
        ]
    done = subprocess.run(
        [
            *(sys.executable, "-m", "schemathesis.cli", "run", f"{web}/openapi.json"),
            # Two workers are two threads, in which CPython 3.11 may fail to parse: "AST constructor
            # recursion depth mismatch" (SystemError).
            *("--checks", "not_a_server_error", "--max-examples", str(EXAMPLES), "--workers", "1"),
            *("--phases", "examples,coverage,fuzzing,stateful", "--no-color", *options),
        ],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=400,
    )
    assert done.returncode == 0, done.stdout + done.stderr

"""A test run that is killed leaves no servers and no data behind."""

import json
import subprocess
import sys
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from core.dev.servers import is_listening
from core.testing import eventually
from core.tests.processes.conftest import environment

TESTS = """
import json, os, time
from pathlib import Path

def test_long(servers, tmp_path):
    servers_of_run = {**servers.environment, "folder": str(servers.mail.parent.parent)}
    Path("draft.json").write_text(json.dumps(servers_of_run))
    os.replace("draft.json", "servers.json")
    time.sleep(600)
"""
OPTIONS = ["-p", "core.testing", "-p", "no:cacheprovider", "-o", "asyncio_mode=auto"]
SECONDS = 60


@pytest.mark.parametrize("end", [subprocess.Popen.terminate, subprocess.Popen.kill])
async def test_a_killed_run_leaves_nothing(root: Path, end):
    (root / "test_long.py").write_text(TESTS)
    named = root / "servers.json"
    started = environment(root, MONGODB_URL=None, REDIS_URL=None)
    process = subprocess.Popen(
        [sys.executable, "-m", "pytest", *OPTIONS, "test_long.py"], cwd=root, env=started
    )
    try:
        await eventually(named.exists, SECONDS)
        servers = json.loads(named.read_text())
        urls = [url for name, url in servers.items() if name.endswith("_URL")]
        ports = [port for url in urls if (port := urlsplit(url).port)]
        assert len(ports) == len(urls) >= 2
        assert all(is_listening(port) for port in ports)
    finally:
        end(process)
        process.wait()
    await eventually(lambda: not any(map(is_listening, ports)), SECONDS)
    folder = Path(servers["folder"])
    await eventually(lambda: not folder.exists(), SECONDS)

"""A test fails if its code forgets an `await`: the code behind it did not run."""

import subprocess
import sys
from pathlib import Path

from core.tests.processes.conftest import environment

TESTS = """
async def enqueue() -> None: ...

def ship() -> None:
    enqueue()

async def test_forgotten() -> None:
    ship()

async def test_awaited() -> None:
    await enqueue()
"""
OPTIONS = ["-p", "core.testing", "-p", "no:cacheprovider", "-o", "asyncio_mode=auto"]


def test_a_forgotten_await_fails_its_test(root: Path):
    (root / "test_await.py").write_text(TESTS)
    done = subprocess.run(
        [sys.executable, "-m", "pytest", *OPTIONS, "test_await.py"],
        cwd=root,
        env=environment(root),
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert "FAILED test_await.py::test_forgotten" in done.stdout
    assert "coroutine 'enqueue' was never awaited" in done.stdout
    assert 'test_await.py", line 5, in ship' in done.stdout
    assert "_pytest" not in done.stdout
    assert "1 failed, 1 passed" in done.stdout

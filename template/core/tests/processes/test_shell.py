"""`just shell` in a terminal: the service is open, and `await` works."""

import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from core.tests.processes.conftest import environment
from core.tests.terminal import Terminal

PROMPT = ">>> "
GIVEN = (
    "MONGODB_DATABASE",
    "MONGODB_URL",
    "QUEUE_NAME",
    "REDIS_URL",
    "SECRET_KEY",
    "TASK_ENGINE",
)
"""The settings of the test that the shell gets."""


class Shell(Terminal):
    """The shell in a terminal."""

    def type(self, text: str) -> str:
        """Type a line, and return what the shell prints until its next prompt."""
        self.press(text)
        return self.read_until(f"\n{PROMPT}")


@pytest.fixture
def shell(running_worker, root: Path, elsewhere: Path) -> Iterator[Shell]:
    settings = {name: os.environ[name] for name in GIVEN if name in os.environ}
    command = [sys.executable, "-m", "core", "shell"]
    shell = Shell(command, elsewhere, environment(root, **settings))
    yield shell
    shell.close()


def test_the_shell_enqueues_jobs_and_runs_queries(shell, root: Path):
    banner = shell.read_until(PROMPT)
    assert "worker, settings, 2 tasks and " in banner
    assert len(banner.splitlines()) == 2

    shell.type("job = await ship.enqueue('o-1')\n")
    assert "\nNone\n" in shell.type("print(await job.result(20))\n")
    assert "\nJob('" in shell.type("ship.delay('o-2')\n")
    shell.type("job = ship.enqueue_sync('o-3')\n")
    assert "'completed'" in shell.type("(await job.wait(20)).status.value\n")
    assert "\n0\n" in shell.type("await UserModel.count()\n")

    refused = shell.type("ship.enqueue_sync()\n")
    assert "InvalidArguments: task ship: missing a required argument: 'order'\n" in refused
    assert "Traceback" not in refused

    shell.press("import asyncio; print('wait' + 'ing'); await asyncio.sleep(3600)\n")
    shell.read_until("waiting")
    assert "KeyboardInterrupt" in shell.type("\x03")
    assert "'ship'\n" in shell.type("shi\t.name\n")

    shell.press("\x04")
    assert shell.wait() == 0
    assert "ship.name" in (root / ".dev" / "shell-history").read_text()

"""`just shell` in a terminal: the service is open, and `await` works."""

import os
import pty
import select
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from core.tests.processes.conftest import environment

SECONDS = 30
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


class Terminal:
    """A process in a separate terminal."""

    def __init__(self, command: list[str], folder: Path, environment: dict[str, str]) -> None:
        self._keyboard, terminal = pty.openpty()
        self.process = subprocess.Popen(
            command,
            cwd=folder,
            env={**environment, "TERM": "xterm"},
            stdin=terminal,
            stdout=terminal,
            stderr=terminal,
            start_new_session=True,
            # Ctrl-C goes to the process of the session that owns the terminal.
            preexec_fn=lambda: os.close(os.open(os.ttyname(0), os.O_RDWR)),
        )
        os.close(terminal)

    def read_until(self, text: str) -> str:
        """Return what the process prints, up to and with this text."""
        shown = ""
        deadline = time.monotonic() + SECONDS
        while text not in shown:
            left = deadline - time.monotonic()
            assert left > 0, f"{text!r} is not in:\n{shown}"
            if select.select([self._keyboard], [], [], left)[0]:
                shown += os.read(self._keyboard, 1).decode(errors="replace")
        return shown.replace("\r", "")

    def type(self, text: str) -> str:
        """Type a line, and return what the process prints until its next prompt."""
        os.write(self._keyboard, text.encode())
        return self.read_until(f"\n{PROMPT}")

    def press(self, key: str) -> None:
        os.write(self._keyboard, key.encode())

    def wait(self) -> int:
        """Read the rest of the output, and return the exit status."""
        with suppress(OSError):  # the terminal of a process that has ended
            while os.read(self._keyboard, 1024):
                pass
        return self.process.wait(SECONDS)

    def close(self) -> None:
        self.process.kill()
        self.process.wait()
        os.close(self._keyboard)


@pytest.fixture
def shell(running_worker, root: Path, elsewhere: Path) -> Iterator[Terminal]:
    settings = {name: os.environ[name] for name in GIVEN if name in os.environ}
    command = [sys.executable, "-m", "core", "shell"]
    shell = Terminal(command, elsewhere, environment(root, **settings))
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

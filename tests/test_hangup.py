"""`uv run just dev` ends with its terminal, and leaves no process behind."""

import fcntl
import os
import re
import select
import signal
import socket
import subprocess
import termios
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from conftest import UV, clean_environment, duplicate

SECONDS = 120
COMMAND = f"{UV} run just dev"


class Terminal:
    """A terminal in which a command runs as the leader of the session."""

    def __init__(self, *command: str, cwd: Path, port: int) -> None:
        self._output = b""
        self._closing = threading.Event()
        self._master, slave = os.openpty()
        self.process = subprocess.Popen(
            command,
            cwd=cwd,
            env={**clean_environment(), "PORT": str(port)},
            stdin=slave,
            stdout=slave,
            stderr=slave,
            start_new_session=True,
            preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0),
        )
        os.close(slave)
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        while not self._closing.is_set():
            is_readable, _, _ = select.select([self._master], [], [], 0.1)
            try:
                if is_readable:
                    self._output += os.read(self._master, 65536)
            except OSError:  # no process has the other side open
                return

    @property
    def output(self) -> str:
        return self._output.decode(errors="replace")

    def type(self, line: str) -> None:
        os.write(self._master, f"{line}\n".encode())

    def ports(self) -> set[int]:
        """Return the ports that the output names."""
        return {int(port) for port in re.findall(r"://127\.0\.0\.1:(\d+)", self.output)}

    def close(self) -> None:
        """Close the window. The kernel then hangs up."""
        if not self._closing.is_set():
            self._closing.set()
            self._reader.join()  # a window that somebody reads stays open
            os.close(self._master)


def wait_until(is_done: Callable[[], bool], terminal: Terminal) -> None:
    deadline = time.monotonic() + SECONDS
    while not is_done():
        assert time.monotonic() < deadline, terminal.output
        time.sleep(0.05)


def is_listening(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


@pytest.fixture
def port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.fixture(
    params=[
        pytest.param(("sh", "-c", f"exec {COMMAND}"), id="alone"),
        pytest.param(("bash", "--norc", "-i"), id="shell"),
    ]
)
def terminal(
    request: pytest.FixtureRequest, queue_service: Path, tmp_path: Path, port: int
) -> Iterator[Terminal]:
    """A terminal that runs `just dev` alone, as an editor or tmux starts it, or in a shell."""
    service = duplicate(queue_service, tmp_path / "service")
    terminal = Terminal(*request.param, cwd=service, port=port)
    if request.param[0] == "bash":
        terminal.type(COMMAND)
    yield terminal
    terminal.close()
    if terminal.process.poll() is None:
        terminal.process.send_signal(signal.SIGTERM)


def test_everything_ends_when_the_terminal_closes(terminal: Terminal) -> None:
    def are_up() -> bool:  # three servers and the web process
        return len(terminal.ports()) == 4 and all(map(is_listening, terminal.ports()))

    wait_until(are_up, terminal)
    terminal.close()
    terminal.process.wait(SECONDS)
    wait_until(lambda: not any(map(is_listening, terminal.ports())), terminal)

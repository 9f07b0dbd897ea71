"""The output in a terminal: short lines, the address at the end, one line for an error."""

import fcntl
import os
import pty
import re
import select
import signal
import statistics
import subprocess
import termios
import time
from collections.abc import Iterator
from pathlib import Path

import httpx2
import pytest
from conftest import UV, clean_environment, duplicate, free_port, run

SECONDS = 120
COLORS = re.compile(r"\x1b\[[\d;]*m")
CTRL_C = b"\x03"
ACCOUNT = {
    "email": "ada@example.com",
    "password": "correct horse",
    "display_name": "Ada",
}


class Terminal:
    """A command in a separate terminal."""

    def __init__(self, command: list[str], cwd: Path, environment: dict[str, str]) -> None:
        self._ours, theirs = pty.openpty()
        self.process = subprocess.Popen(
            command,
            cwd=cwd,
            env=environment,
            stdin=theirs,
            stdout=theirs,
            stderr=theirs,
            start_new_session=True,
            preexec_fn=_take_terminal,
        )
        os.close(theirs)
        self._output = b""

    @property
    def text(self) -> str:
        """The text on the screen, without colors."""
        text = self._output.decode(errors="replace").replace("\r\n", "\n")
        return COLORS.sub("", text)

    def type(self, keys: bytes) -> None:
        os.write(self._ours, keys)

    def read_until(self, text: str) -> None:
        deadline = time.monotonic() + SECONDS
        while text not in self.text:
            assert time.monotonic() < deadline, f"{text!r} is not in:\n{self.text}"
            assert self._read(), f"the command ended without {text!r}:\n{self.text}"

    def read_to_end(self) -> int:
        """Read until the command has ended, and return its status."""
        while self._read():
            pass
        return self.process.wait(SECONDS)

    def _read(self) -> bool:
        """Read what is there. Return False if the command has ended."""
        readable, _, _ = select.select([self._ours], [], [], 1)
        if not readable:
            return True
        try:
            read = os.read(self._ours, 65536)
        except OSError:  # the last process closed the terminal
            return False
        self._output += read
        return bool(read)


def _take_terminal() -> None:
    """Make standard input the terminal of this process, which then gets its Ctrl-C."""
    fcntl.ioctl(0, termios.TIOCSCTTY, 0)


@pytest.fixture
def dev(service: Path, tmp_path: Path) -> Iterator[tuple[Terminal, str]]:
    """`just dev` in a terminal, when it has printed the address, and the address."""
    target = duplicate(service, tmp_path / "service")
    environment = {**clean_environment(), "PORT": str(free_port()), "TERM": "xterm"}
    terminal = Terminal([UV, "run", "just", "dev"], target, environment)
    terminal.read_until("(console: /console, API: /docs)\n")
    (address,) = re.findall(r"^dev \| web +(\S+) ", terminal.text, re.MULTILINE)
    yield terminal, address
    if terminal.process.poll() is None:
        terminal.process.send_signal(signal.SIGTERM)
        terminal.process.wait(SECONDS)


def test_just_dev_fits_in_a_terminal(service: Path, dev: tuple[Terminal, str]) -> None:
    terminal, address = dev
    *_, last, end = terminal.text.split("\n")
    assert (last, end) == (f"dev | web      {address} (console: /console, API: /docs)", "")
    # It listens, so no request is refused from now on.
    httpx2.get(f"{address}/health/ready").raise_for_status()
    httpx2.get(f"{address}/metrics").raise_for_status()
    httpx2.post(f"{address}/signup", json=ACCOUNT).raise_for_status()
    terminal.read_until("send_confirmation: job completed")
    login = {name: ACCOUNT[name] for name in ("email", "password")}
    # The address is not confirmed.
    assert httpx2.post(f"{address}/login", json=login).status_code == 401
    terminal.read_until("POST /login 401")

    lines = re.findall(r"^\d\d:\d\d:\d\d .*$", terminal.text, re.MULTILINE)
    assert len(lines) == 5
    assert statistics.median(map(len, lines)) <= 100
    assert max(map(len, lines)) <= 120
    assert "/health" not in terminal.text
    assert "/metrics" not in terminal.text
    (request,) = [line for line in lines if "POST /signup 202" in line]
    (job,) = [line for line in lines if "job completed" in line]
    assert re.search(r" correlation=[0-9a-f]{8}$", request)
    assert request.split()[-1] == job.split()[-1]
    assert re.search(r" job=[0-9a-f]{8} ", job)

    terminal.type(CTRL_C)
    assert terminal.read_to_end() == 128 + signal.SIGINT
    assert "dev | stopping\n" in terminal.text
    assert "error" not in terminal.text
    assert "Traceback" not in terminal.text


def test_a_recipe_prints_one_line_for_an_error(service: Path) -> None:
    recipes = ["jobs", "dead-letters", "schedules", "history", "workers", "stats", "drain", "shell"]
    for recipe in [*recipes, "admin a@example.com --role viewer"]:
        done = run(UV, "run", "--quiet", "just", *recipe.split(), cwd=service, check=False)
        assert done.returncode == 2, recipe
        hint = "MongoDB is not running here. Start `just dev`, or set MONGODB_URL."
        assert (done.stdout, done.stderr) == ("", f"error: {hint}\n"), recipe


def test_a_check_that_fails_explains_itself(queue_service: Path, tmp_path: Path) -> None:
    """Just adds no line about the recipe, because the tool has said what is wrong."""
    target = duplicate(queue_service, tmp_path / "service")
    (target / "tests" / "test_wrong.py").write_text(
        "import os\n\n\ndef test_wrong() -> int:\n    assert len('a') == 2\n    return 'b'\n"
    )
    for recipe, problem in (
        ("lint", "`os` imported but unused"),
        ("typecheck", 'expected "int"'),
        ("test tests/test_wrong.py -n0 -q", "1 failed"),
    ):
        done = run(UV, "run", "--quiet", "just", *recipe.split(), cwd=target, check=False)
        assert done.returncode == 1, done.stdout + done.stderr
        assert problem in done.stdout
        assert "recipe" not in done.stderr

"""`just dev` starts real servers, reloads, and leaves no process behind."""

import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import httpx2
import pytest
from dotenv import dotenv_values

from core.dev.servers import MONGODB, free_port, is_listening  # noqa: TID251
from core.tasks.engines import DEFAULT  # noqa: TID251

ROOT = Path.cwd()
SECONDS = 120
ADDRESS = "(console: /console, API: /docs)"
"""The end of the line that `just dev` prints when everything has started."""
ENDED = "web ended; it starts again" if DEFAULT == "local" else "web and worker ended; they start"


def make_environment(folder: Path) -> dict[str, str]:
    """Return the variables for commands of a project, in which no setting names a server."""
    named = ("MONGODB_URL", "REDIS_URL", "SMTP_URL")
    environment = {name: value for name, value in os.environ.items() if name not in named}
    return {**environment, "PYTHONPATH": str(folder), "LOG_FORMAT": "json"}


class Dev:
    """A running `python -m core dev` of a copy of this project, started in another folder."""

    def __init__(self, folder: Path, *arguments: str, port: int) -> None:
        self.port = port
        self._output = tempfile.TemporaryFile("w+")  # noqa: SIM115  # open as long as the process
        self.process = subprocess.Popen(
            [sys.executable, "-m", "core", "dev", *arguments],
            cwd="/",
            env={**make_environment(folder), "PORT": str(port)},
            stdout=self._output,
            stderr=self._output,
            start_new_session=True,
        )

    @property
    def output(self) -> str:
        # The processes share the position in the file, so reading must not move it.
        file = self._output.fileno()
        return os.pread(file, os.fstat(file).st_size, 0).decode(errors="replace")

    def wait_for(self, text: str, times: int = 1) -> None:
        deadline = time.monotonic() + SECONDS
        while self.output.count(text) < times:
            assert time.monotonic() < deadline, f"{text!r} is not in:\n{self.output}"
            assert self.process.poll() is None or text in self.output, self.output
            time.sleep(0.05)

    def server_ports(self) -> list[int]:
        ports = re.findall(r"://127\.0\.0\.1:(\d+)", self.output)
        return [int(port) for port in dict.fromkeys(ports)]


@pytest.fixture
def folder(tmp_path) -> Path:
    for name in ("app", "core"):
        shutil.copytree(
            ROOT / name, tmp_path / name, ignore=shutil.ignore_patterns("__pycache__", "tests")
        )
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    (tmp_path / ".env").write_text(f"SECRET_KEY={'x' * 32}\n")
    return tmp_path


@pytest.fixture
def dev(folder) -> Iterator[Dev]:
    dev = Dev(folder, port=free_port())
    yield dev
    dev.process.kill()


def wait_until_free(ports: list[int]) -> None:
    deadline = time.monotonic() + SECONDS
    while any(is_listening(port) for port in ports):
        assert time.monotonic() < deadline, f"a process still listens on one of {ports}"
        time.sleep(0.05)


def process_listening_on(port: int) -> int:
    """Return the process id of the mongod that listens on this port."""
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit():
            words = (folder / "cmdline").read_bytes().split(b"\0")
            if b"--dbpath" in words and str(port).encode() in words:
                return int(folder.name)
    raise AssertionError(f"no mongod on {port}")


def list_schedules(folder: Path) -> str:
    """Return what `schedules list` prints in another folder than the project's."""
    command = [sys.executable, "-m", "core", "schedules", "list"]
    environment = make_environment(folder)
    done = subprocess.run(
        command, cwd="/", env=environment, check=True, capture_output=True, text=True
    )
    return done.stdout


SCRIPT = """
from app.tasks.emails import send_welcome_email
from core.entry import open_service_sync

with open_service_sync() as portal:
    job = send_welcome_email.enqueue_sync("0" * 24)
    print(portal.call(job.result, 20)["status"])
"""


def run_code(folder: Path, code: str) -> str:
    """Return what a script in the project's folder prints."""
    (folder / "script.py").write_text(code)
    command = [sys.executable, "script.py"]
    environment = make_environment(folder)
    done = subprocess.run(
        command, cwd=folder, env=environment, check=True, capture_output=True, text=True
    )
    return done.stdout


NAP = """
import asyncio
from app.tasks.worker import worker

@worker.task
async def nap() -> None:
    await asyncio.sleep(15)
"""
ENQUEUE_NAP = """
from app.tasks.naps import nap
from core.entry import open_service_sync

with open_service_sync() as portal:
    job = nap.enqueue_sync()
    while portal.call(job.status) != "running":
        pass
"""


def check_that_web_does_not_wait_for_jobs(dev: Dev, folder: Path) -> None:
    main = folder / "app" / "main.py"
    tasks = folder / "app" / "tasks"
    (tasks / "naps.py").write_text(NAP)
    (tasks / "worker.py").write_text((tasks / "worker.py").read_text() + "from . import naps\n")
    dev.wait_for(ADDRESS, times=3)
    run_code(folder, ENQUEUE_NAP)
    main.write_text(main.read_text() + "\n")
    dev.wait_for("dev | worker   finishes its work before it starts again")
    wait_until_ready(dev)
    assert dev.output.count(ADDRESS) == 3  # the worker is still busy
    dev.wait_for(ADDRESS, times=4)


def wait_until_ready(dev: Dev) -> None:
    deadline = time.monotonic() + SECONDS
    while not ready(dev):
        assert time.monotonic() < deadline, dev.output
        time.sleep(0.1)


def ready(dev: Dev) -> bool:
    try:
        return httpx2.get(f"http://127.0.0.1:{dev.port}/health/ready").status_code == 200
    except httpx2.TransportError:
        return False


def test_it_starts_reloads_and_stops_cleanly(dev, folder):
    dev.wait_for(ADDRESS)
    assert ready(dev)  # the address is printed when the web process listens
    ports = dev.server_ports()
    assert len(ports) == (3 if DEFAULT == "local" else 4)  # one for each process
    assert run_code(folder, SCRIPT) == "skipped\n"
    assert re.search("^send_daily_digest +enabled ", list_schedules(folder), re.MULTILINE)

    main = folder / "app" / "main.py"
    main.write_text(main.read_text() + "\nunknown_name\n")
    dev.wait_for(ENDED)
    main.write_text((ROOT / "app" / "main.py").read_text())
    dev.wait_for("dev | app/main.py changed, starting again", times=2)
    dev.wait_for(ADDRESS, times=2)
    assert ready(dev)

    if DEFAULT != "local":
        check_that_web_does_not_wait_for_jobs(dev, folder)

    # A server that dies is started again, on the same port.
    url = dotenv_values(folder / ".dev" / "mongod.env")[MONGODB.setting]
    mongod = urlsplit(url).port
    os.kill(process_listening_on(mongod), signal.SIGKILL)
    dev.wait_for("mongod ended with status -9, starting it again")
    wait_until_ready(dev)

    if DEFAULT != "local":
        # A second terminal uses the servers of the first.
        other = Dev(folder, "worker", port=free_port())
        other.wait_for("dev | worker   takes jobs")
        assert sorted(other.server_ports()) == sorted(set(ports) - {dev.port})
        other.process.send_signal(signal.SIGINT)
        assert other.process.wait(SECONDS) == 128 + signal.SIGINT
        assert ready(dev)

    dev.process.send_signal(signal.SIGINT)
    assert dev.process.wait(SECONDS) == 128 + signal.SIGINT
    wait_until_free(ports)


def test_an_error_is_printed_once(dev, folder):
    dev.wait_for(ADDRESS)
    tasks = folder / "app" / "tasks" / "cleanup.py"
    code = tasks.read_text()
    tasks.write_text(f"{code}\nunknown_name\n")
    dev.wait_for(ENDED)
    line = len(code.splitlines()) + 2
    error = f"error: app/tasks/cleanup.py:{line}: NameError: name 'unknown_name' is not defined\n"
    assert dev.output.count(error) == dev.output.count("NameError") == 1
    assert "Traceback" not in dev.output
    assert "core/" not in dev.output

    tasks.write_text(code)
    dev.wait_for(ADDRESS, times=2)
    (folder / ".env").write_text(f"SECRET_KEY={'x' * 32}\nthis is broken\n")
    dev.wait_for(ENDED, times=2)
    assert dev.output.count(".env:2 cannot be read") == 1


def test_its_children_die_with_it_when_it_is_killed(dev):
    dev.wait_for(ADDRESS)
    ports = dev.server_ports()
    assert all(is_listening(port) for port in ports)

    dev.process.kill()
    wait_until_free(ports)


def test_a_port_that_is_taken_is_named(dev, folder):
    dev.wait_for(ADDRESS)
    other = Dev(folder, "web", port=dev.port)
    assert other.process.wait(SECONDS) == 2
    # Nothing else, because nothing was started.
    assert other.output == f"error: port {dev.port} is in use. Set PORT to another port.\n"


def test_a_misspelled_setting_is_named_once(folder):
    env = folder / ".env"
    env.write_text(f"{env.read_text()}TASK_TIMEOTU=60\n")
    dev = Dev(folder, port=free_port())
    try:
        for name in ["web"] if DEFAULT == "local" else ["web", "worker"]:
            dev.wait_for(f"{name} started")
        line = "TASK_TIMEOTU is not a setting; did you mean TASK_TIMEOUT?"
        assert dev.output.count(line) == 1
    finally:
        dev.process.kill()


def test_a_missing_setting_of_ones_own_is_named_once(folder):
    settings = folder / "app" / "settings.py"
    source = settings.read_text().replace("# payment_key", "payment_key")
    settings.write_text(f"from pydantic import SecretStr\n{source}")
    dev = Dev(folder, port=free_port())
    assert dev.process.wait(SECONDS) == 2
    assert dev.output.count("error: settings: PAYMENT_KEY is missing") == 1
    assert "Traceback" not in dev.output

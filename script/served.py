"""A rendered service that runs on real servers, with the tasks of `tests/shop`."""

import json
import os
import secrets
import shutil
import socket
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from http import HTTPStatus
from http.client import HTTPConnection, HTTPException
from pathlib import Path
from typing import Any, TypeVar

HOST = "127.0.0.1"
SHOP = Path(__file__).resolve().parent.parent / "tests" / "shop"
SECONDS = 60
PASSWORD = "correct horse battery staple"
SERVERS = """
import json, sys
from pathlib import Path
from core.dev.servers import free_port, needed_servers, start_server

folder = Path(sys.argv[1])
processes, urls = [], {}
try:
    for server in needed_servers():
        port = free_port()
        processes.append(start_server(server, folder / server.name, port))
        urls[server.setting] = server.url(port)
    print(json.dumps(urls), flush=True)
    sys.stdin.read()
finally:
    for process in processes:
        process.kill()
        process.wait()
"""
"""Runs the servers until standard input is closed, which also happens if its writer is killed."""

T = TypeVar("T")
Process = subprocess.Popen[bytes]


def eventually(check: Callable[[], T], seconds: float = SECONDS) -> T:
    """Call a function until it returns a true value, and return this value.

    Args:
        check: The function.
        seconds: The longest time to wait, in seconds.

    Raises:
        TimeoutError: The function returned no true value in this time.
    """
    deadline = time.monotonic() + seconds
    while not (value := check()):
        if time.monotonic() > deadline:
            raise TimeoutError
        time.sleep(0.05)
    return value


def add_shop(service: Path) -> None:
    """Add the tasks and the route of the shop to a service."""
    shutil.copytree(SHOP, service / "app", dirs_exist_ok=True)
    with (service / "app" / "tasks" / "worker.py").open("a") as worker:
        worker.write("from . import shop\n")
    main = service / "app" / "main.py"
    text = main.read_text().replace("import accounts,", "import accounts, shop,")
    main.write_text(text.replace("accounts.router,", "accounts.router, shop.router,"))


class Served:
    """A service with the tasks of the shop, its servers and its processes.

    Args:
        service: The folder of the service, which is installed.
        folder: A folder for data and logs.
        settings: Further settings.
    """

    def __init__(self, service: Path, folder: Path, **settings: str) -> None:
        self.service = service
        self.folder = folder
        self.gates = folder / "gates"
        self.gates.mkdir(parents=True)
        self.settings = {
            "SECRET_KEY": secrets.token_hex(32),
            "SHOP_FOLDER": str(self.gates),
            "LOG_FORMAT": "json",
            "TASK_GRACE_PERIOD": "1",  # many jobs wait for a gate
            **settings,
        }
        self._processes: list[Process] = []
        self.port = 0

    @property
    def base(self) -> str:
        """The address of the first web process."""
        return f"http://{HOST}:{self.port}"

    @property
    def mail(self) -> Path:
        """The Maildir of the SMTP server."""
        return self.folder / "servers" / "mail" / "maildir"

    def start_servers(self) -> None:
        process = subprocess.Popen(
            [*self._python(), "-c", SERVERS, str(self.folder / "servers")],
            cwd=self.service,
            env=self._environment(),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        self._processes.append(process)
        assert process.stdout
        self.settings |= json.loads(process.stdout.readline())

    def start_web(self, **settings: str) -> str:
        """Start a web process, and return its address."""
        port = find_port()
        process = self._start("web", PORT=str(port), **settings)
        self._wait(process, port, "/health/ready")
        self.port = self.port or port
        return f"http://{HOST}:{port}"

    def start_dev(self) -> str:
        """Start `just dev`, which runs servers too, and return the address of its web process."""
        port = find_port()
        process = self._start("dev", PORT=str(port))
        self._wait(process, port, "/health/ready")
        self.port = port
        return self.base

    def start_worker(self, **settings: str) -> Process:
        """Start a worker, and wait until it takes jobs."""
        port = find_port()
        process = self._start("worker", WORKER_PORT=str(port), **settings)
        self._wait(process, port, "/health/ready")
        return process

    def stop(self, process: Process) -> None:
        """Stop a process gracefully."""
        process.terminate()
        process.wait(SECONDS)
        self._processes.remove(process)

    def enqueue(self, task: str, *calls: Sequence[Any], **query: object) -> list[str]:
        """Enqueue a job of a task for each call, and return their ids."""
        options = "&".join(f"{name}={value}" for name, value in query.items())
        body = json.dumps([list(call) for call in calls])
        status, text = request(self.port, f"/shop/jobs/{task}?{options}", body)
        assert status == HTTPStatus.OK, text
        ids: list[str] = json.loads(text)
        return ids

    def status(self, job_id: str) -> str:
        """Return the status of a job."""
        _, text = request(self.port, f"/shop/jobs/{job_id}")
        return str(json.loads(text))

    def wait_for(self, status: str, *job_ids: str) -> None:
        """Wait until jobs have a status."""
        eventually(lambda: {self.status(job_id) for job_id in job_ids} == {status})

    def open_gate(self, name: str) -> None:
        """Let the jobs end that wait for a file of this name."""
        (self.gates / name).touch()

    def close_gate(self, name: str) -> None:
        """Undo `open_gate` for later jobs."""
        (self.gates / name).unlink()

    def run(self, *arguments: str, typed: str = "") -> str:
        """Run a command of the service, and return what it prints."""
        return self.run_python("-m", "core", *arguments, typed=typed)

    def run_python(self, *arguments: str, typed: str = "") -> str:
        """Run Python in the service, and return what it prints."""
        done = subprocess.run(
            [*self._python(), *arguments],
            cwd=self.service,
            env=self._environment(),
            input=typed,
            capture_output=True,
            text=True,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def log(self) -> str:
        """Return the log of all processes."""
        return "".join(path.read_text() for path in sorted(self.folder.glob("*.log")))

    def close(self) -> None:
        """End everything, the servers last."""
        for process in reversed(self._processes):
            if process.stdin:
                process.stdin.close()
            else:
                process.terminate()
            process.wait(SECONDS)

    def _python(self) -> list[str]:
        return [str(self.service / ".venv" / "bin" / "python")]

    def _environment(self) -> dict[str, str]:
        kept = {name: os.environ[name] for name in ("PATH", "HOME", "TMPDIR") if name in os.environ}
        return {**kept, **self.settings}

    def _start(self, name: str, **settings: str) -> Process:
        log = self.folder / f"{name}-{len(self._processes)}.log"
        with log.open("wb") as output:
            process = subprocess.Popen(
                [*self._python(), "-m", "core", name],
                cwd=self.service,
                env={**self._environment(), **settings},
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
            )
        self._processes.append(process)
        return process

    def _wait(self, process: Process, port: int, path: str) -> None:
        def is_ready() -> bool:
            assert process.poll() is None, self.log()
            with suppress(OSError, HTTPException):
                return request(port, path)[0] == HTTPStatus.OK
            return False

        eventually(is_ready)


def find_port() -> int:
    """Return a free port that the system does not use for outgoing connections."""
    while True:
        port = secrets.choice(range(20000, 32768))
        with socket.socket() as probe, suppress(OSError):
            probe.bind((HOST, port))
            return port


def request(port: int, path: str, body: str | None = None) -> tuple[int, str]:
    """Send a request to this machine, with JSON if there is a body. Return status and text."""
    connection = HTTPConnection(HOST, port, timeout=SECONDS)
    try:
        headers = {"Content-Type": "application/json"}
        connection.request("POST" if body else "GET", path, body, headers)
        answer = connection.getresponse()
        return answer.status, answer.read().decode()
    finally:
        connection.close()


@contextmanager
def serve(service: Path, folder: Path, **settings: str) -> Iterator[Served]:
    """Run the servers of a service until the block ends.

    Args:
        service: The folder of the service, which is installed and has the shop.
        folder: A folder for data and logs.
        settings: Further settings.
    """
    served = Served(service, folder, **settings)
    try:
        served.start_servers()
        yield served
    finally:
        served.close()

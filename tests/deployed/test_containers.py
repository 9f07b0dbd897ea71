"""The image of this service, on real servers: web and worker start, do a job, and stop.

`tests/test_image.py` of the template builds the image and runs this in a service.
"""

import os
import socket
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from core.config import Settings
from core.dev.servers import free_port  # noqa: TID251
from core.tasks import Worker
from core.testing import eventually

IMAGE = os.environ["IMAGE"]
SCRIPT = os.environ["IMAGE_SCRIPT"]
SIGN_UP = os.environ["SIGN_UP"]
"""The commands of the workflow that do a job."""
GRACE_SECONDS = 5
SECONDS = 60
USER = "10001"


def podman(*arguments: str) -> str:
    done = subprocess.run([SCRIPT, *arguments], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, f"{arguments}: {done.stdout}\n{done.stderr}"
    return done.stdout.strip()


class Container:
    """A running container of the image.

    Args:
        name: `web` or `worker`.
        port: The port of its health check.
        variables: Its environment.
        blobs: The folder for files, which is the only one that outlives it.
    """

    def __init__(self, name: str, port: int, variables: dict[str, str], blobs: Path) -> None:
        self.port = port
        self.name = f"{name}-{port}"
        settings = blobs.parent / f"{name}.env"
        settings.write_text("".join(f"{key}={value}\n" for key, value in variables.items()))
        # The command of docs/deploy.md, with the names of this test.
        names = {name: self.name, "production.env": str(settings), "my-service": IMAGE}
        run, *options, last = os.environ[f"START_{name.upper()}"].split()
        options = [names.get(each, each).replace("/srv/blobs:", f"{blobs}:") for each in options]
        podman(run, *options, last)

    def is_healthy(self) -> bool:
        """Run the health check of the image."""
        command = [SCRIPT, "healthcheck", "run", self.name]
        return subprocess.run(command, capture_output=True, timeout=SECONDS).returncode == 0

    def wait_until_healthy(self) -> None:
        deadline = time.monotonic() + SECONDS
        while not self.is_healthy():
            assert time.monotonic() < deadline, self.read_log()
            time.sleep(0.2)

    def run(self, *command: str) -> "subprocess.CompletedProcess[str]":
        """Run a command inside."""
        inside = [SCRIPT, "exec", self.name, *command]
        return subprocess.run(inside, capture_output=True, text=True, timeout=SECONDS)

    def read_log(self) -> str:
        done = subprocess.run([SCRIPT, "logs", self.name], capture_output=True, text=True)
        return done.stdout + done.stderr

    def stop(self) -> None:
        """Send SIGTERM. The process ends with status 0 before it would be killed."""
        limit = GRACE_SECONDS + 10
        started = time.monotonic()
        podman("stop", "--time", str(limit), self.name)
        assert time.monotonic() - started < limit
        status = podman("inspect", "--format", "{{.State.ExitCode}}", self.name)
        assert status == "0", self.read_log()

    def remove(self) -> None:
        podman("rm", "--force", "--time", "0", self.name)


@pytest.fixture
def blobs(tmp_path: Path) -> Path:
    folder = tmp_path / "blobs"
    folder.mkdir()
    os.chown(folder, int(USER), int(USER))
    return folder


@pytest.fixture
def variables(settings: Settings, servers) -> dict[str, str]:
    """The settings of production, on the servers of this test."""
    return {
        **servers.environment,
        "SECRET_KEY": settings.secret_key.get_secret_value(),
        "QUEUE_NAME": settings.queue_name,
        "MAIL_FROM": "no-reply@example.com",
        "PUBLIC_URL": "http://127.0.0.1",
        "BLOB_URL": "/var/lib/blobs",
        "TASK_GRACE_PERIOD": str(GRACE_SECONDS),
    }


@pytest.fixture
def web(variables: dict[str, str], blobs: Path) -> Iterator[Container]:
    port = free_port()
    container = Container("web", port, {**variables, "PORT": str(port)}, blobs)
    yield container
    container.remove()


@pytest.fixture
def worker(variables: dict[str, str], blobs: Path) -> Iterator[Container]:
    port = free_port()
    container = Container("worker", port, {**variables, "WORKER_PORT": str(port)}, blobs)
    yield container
    container.remove()


def sign_up(port: int, mail: Path, folder: Path) -> None:
    """Run the commands of the workflow, in a folder where `.dev/mail` is the caught mail."""
    (folder / ".dev").mkdir()
    (folder / ".dev" / "mail").symlink_to(mail)
    commands = SIGN_UP.replace("127.0.0.1:8000", f"127.0.0.1:{port}")
    assert str(port) in commands
    subprocess.run(["bash", "-e", "-c", commands], cwd=folder, check=True, timeout=SECONDS + 30)


def check_rights(container: Container) -> None:
    """The user is a number without rights, and can write to `/tmp` only."""
    assert container.run("id", "-u").stdout.strip() == USER
    assert container.run("touch", "/tmp/file").returncode == 0
    assert "Read-only" in container.run("touch", "/service/file").stderr
    status = container.run("cat", "/proc/1/status").stdout
    assert "CapEff:\t0000000000000000" in status
    assert "NoNewPrivs:\t1" in status


def check_content(container: Container) -> None:
    """The packages of development, the tests and the secrets are not in the image."""
    assert container.run("python", "-c", "import fastapi").returncode == 0
    for name in ("pytest", "mypy", "uv", "pip"):
        assert "ModuleNotFoundError" in container.run("python", "-c", f"import {name}").stderr
    files = container.run("find", "/service").stdout.split()
    assert "/service/app/main.py" in files
    unwanted = {".env", ".git", "tests", "deploy", "production.env", "ca.key", "valkey.pem"}
    assert not [name for name in files if unwanted.intersection(Path(name).parts)]
    # The modules were compiled when the image was built.
    assert [name for name in files if "core/__pycache__/entry." in name]


def run_commands(worker: Container) -> None:
    """The commands of docs/deploy.md work in the container, which has no `just`."""
    for command in ("dead-letters list", "schedules list", "history", "migrate --check"):
        done = worker.run("python", "-m", "core", *command.split())
        assert done.returncode == 0, done.stderr


async def stop_during_jobs(worker: Container, settings: Settings) -> None:
    """A job that ends within the grace period ends. A longer one goes back to the queue."""
    tasks = Worker()

    @tasks.task
    async def nap(seconds: float) -> str: ...

    async with tasks.open(settings.model_copy(update={"task_engine": "redis"})):
        short = await nap.enqueue(seconds=2)
        long = await nap.enqueue(seconds=600)

        async def is_running(job) -> bool:
            return await job.status() == "running"

        await eventually(lambda: is_running(short))
        await eventually(lambda: is_running(long))
        worker.stop()
        assert await short.result(1) == "rested"
        assert await long.status() == "pending"
        podman("start", worker.name)
        await eventually(lambda: is_running(long))
        assert await long.abort()


def stop_during_a_request(web: Container) -> None:
    """A request that has begun is answered."""
    body = b'{"email": "eve@example.com", "password": "correct horse", "display_name": "Eve"}'
    lines = ["POST /signup HTTP/1.1", "Host: 127.0.0.1", "Content-Type: application/json"]
    head = "\r\n".join([*lines, f"Content-Length: {len(body)}", "", ""])
    with socket.create_connection(("127.0.0.1", web.port)) as connection:
        connection.sendall(head.encode() + body[:10])
        time.sleep(0.5)  # until the request has begun
        stopping = threading.Thread(target=web.stop)
        stopping.start()
        time.sleep(1)  # until the process has got the signal
        connection.sendall(body[10:])
        assert connection.recv(1000).startswith(b"HTTP/1.1 20")
    stopping.join()


async def test_the_image_does_its_work(
    settings: Settings, servers, mailbox, web: Container, worker: Container, tmp_path: Path
):
    web.wait_until_healthy()
    worker.wait_until_healthy()
    check_rights(web)
    check_content(web)
    run_commands(worker)
    sign_up(web.port, servers.mail, tmp_path)
    assert [message["To"] for message in mailbox.messages] == ["ada@example.com"]
    await stop_during_jobs(worker, settings)
    stop_during_a_request(web)
    assert not web.is_healthy()
    worker.stop()

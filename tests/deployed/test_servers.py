"""The commands and the configuration files of docs/deploy.md work together, with TLS and rights.

`tests/test_deploy.py` of the template runs this in a service. MongoDB's shell is not on the
machine, so PyMongo sends the documents that the page passes to it.
"""

import json
import os
import re
import shutil
import ssl
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import httpx2
import pytest
from pymongo import MongoClient

from core.config import ROOT, Settings
from core.dev.programs import find_mongod  # noqa: TID251
from core.dev.servers import (  # noqa: TID251
    MAIL,
    MAILDIR,
    free_port,
    is_listening,
    start_server,
)
from core.tasks import Worker
from core.testing import eventually

PAGE = Path(os.environ["PAGE"]).read_text()
QUEUE_PAGE = (ROOT / "core" / "docs" / "queue-server.md").read_text()
SECONDS = 60
IMAGE = "~/groundwork/script/image "
"""`tests/test_image.py` runs these commands."""
NOT_RUN = {
    "docker build",
    "docker compose",
    "kubectl exec",
    "mongodump",
    "mongosh",
    "systemd-run",
    "uv sync",
}
"""`tests/test_image.py` builds the image with podman, and the Dockerfile runs `uv sync`."""


def read_blocks(language: str) -> list[str]:
    """Return the blocks of the page in a language."""
    return re.findall(rf"^```{language}\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)


def find_block(language: str, start: str) -> str:
    (block,) = [block for block in read_blocks(language) if block.startswith(start)]
    return block


class Place:
    """A folder and ports, which replace the paths and the addresses of the page."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.mongodb, self.valkey, self.web, self.proxy, self.worker = (
            free_port() for _ in range(5)
        )

    def move(self, text: str) -> str:
        """Replace the paths and addresses in a text of the page."""
        for old, new in {
            "/etc/mongodb/": f"{self.folder}/",
            "/etc/valkey/": f"{self.folder}/",
            "/etc/service/": f"{self.folder}/",
            "/etc/nginx/service": f"{self.folder}/valkey",
            "/var/lib/mongodb": f"{self.folder}/data",
            "/var/lib/valkey": f"{self.folder}/queue",
            "bind * -::*": "bind 127.0.0.1",
            "0.0.0.0": "127.0.0.1",
            "DNS:$name.example.com": "IP:127.0.0.1",
            "mongodb-1.example.com:27017": f"127.0.0.1:{self.mongodb}",
            "valkey.example.com:6379": f"127.0.0.1:{self.valkey}",
            "port: 27017": f"port: {self.mongodb}",
            "tls-port 6379": f"tls-port {self.valkey}",
            "127.0.0.1:8000": f"127.0.0.1:{self.web}",
            "listen 443": f"listen 127.0.0.1:{self.proxy}",
        }.items():
            text = text.replace(old, new)
        return text

    def run(self, commands: str) -> str:
        done = subprocess.run(
            ["sh", "-ec", self.move(commands)], cwd=self.folder, capture_output=True, text=True
        )
        assert done.returncode == 0, done.stderr
        return done.stdout


@pytest.fixture
def place(tmp_path: Path) -> Place:
    place = Place(tmp_path)
    for name in ("data", "queue"):
        (tmp_path / name).mkdir()
    place.run(find_block("sh", "openssl req"))
    place.run(find_block("sh", "openssl rand -base64"))
    return place


@contextmanager
def process(
    port: int | None, log: Path, *command: str, program: str | None = None, **variables: str
) -> Iterator[None]:
    """Run a process for a block, which begins when the process listens on a port, if given."""
    environment = {**os.environ, **variables}
    with log.open("wb") as output:
        started = subprocess.Popen(
            command, executable=program, env=environment, stdout=output, stderr=output
        )
    try:
        if port:
            wait_until_listening(port, log)
        yield
    finally:
        started.terminate()
        started.wait(SECONDS)


def wait_until_listening(port: int, log: Path) -> None:
    deadline = time.monotonic() + SECONDS
    while not is_listening(port):
        assert time.monotonic() < deadline, log.read_text()
        time.sleep(0.05)


def read_commands(place: Place) -> list[tuple[str, dict[str, Any]]]:
    """Return the hosts and the documents that the page passes to MongoDB's shell."""
    text = "".join(read_blocks("sh"))
    pattern = r"^mongosh .*--host (\S+) .*--eval 'db\.adminCommand\((.*)\)'$"
    found = re.findall(pattern, text, re.MULTILINE)
    assert len(found) == len(re.findall("^mongosh ", text, re.MULTILINE)) == 4
    return [(host, json.loads(place.move(document))) for host, document in found]


def set_up_mongodb(place: Place) -> None:
    hosts, documents = zip(*read_commands(place), strict=True)
    # Without a password, MongoDB obeys its own machine only, and a name may have another address.
    (host,) = set(hosts)
    assert host == "localhost"
    initiate, root, user, backup = documents
    options = {"tls": True, "tlsCAFile": str(place.folder / "ca.pem"), "directConnection": True}
    with MongoClient[dict[str, Any]](host, place.mongodb, **options) as client:
        client.admin.command(initiate)
        while not client.admin.command("hello")["isWritablePrimary"]:
            time.sleep(0.05)
        client.admin.command(root)
    name = {"username": root["createUser"], "password": root["pwd"]}
    with MongoClient[dict[str, Any]](host, place.mongodb, **options, **name) as client:
        client.admin.command(user)
        client.admin.command(backup)
    # `mongodump --oplog` reads all databases, the users and the oplog.
    name = {"username": backup["createUser"], "password": backup["pwd"]}
    with MongoClient[dict[str, Any]](host, place.mongodb, **options, **name) as client:
        assert client.local["oplog.rs"].find_one()
        assert client.admin["system.users"].count_documents({}) == 3


def run_mongodb(place: Place, stack: ExitStack) -> str:
    """Start MongoDB as the page says, and return the setting of the service."""
    config = place.folder / "mongod.conf"
    config.write_text(place.move(find_block("yaml", "# /etc/mongod.conf")))
    log = place.folder / "mongod.log"
    command = [find_mongod(), "--config", str(config), "--nounixsocket"]
    stack.enter_context(process(place.mongodb, log, *command))
    set_up_mongodb(place)
    return place.move(find_block("text", "MONGODB_URL").strip().partition("=")[2])


def run_valkey(place: Place, stack: ExitStack) -> str:
    """Start the queue's server as the page says, and return the setting of the service.

    The wheel of Valkey has no TLS. Debian's Redis 7 has, and both read the same file.
    """
    (rights,) = re.findall(r"^ACL SETUSER (queue on .*)$", QUEUE_PAGE, re.MULTILINE)
    lines = find_block("text", "user default off").splitlines()
    assert f"user {rights}".startswith(lines[1].removesuffix("..."))
    (place.folder / "users.acl").write_text(f"{lines[0]}\nuser {rights}\n")
    config = place.folder / "valkey.conf"
    config.write_text(place.move(find_block("text", "# /etc/valkey/valkey.conf")))
    program = shutil.which("redis-check-rdb")  # the server is the same file under another name
    log = place.folder / "valkey.log"
    stack.enter_context(process(place.valkey, log, "redis-server", str(config), program=program))
    return place.move(find_block("text", "REDIS_URL").strip().partition("=")[2])


def wait_until_ready(port: int, log: Path) -> dict[str, Any]:
    deadline = time.monotonic() + SECONDS
    while True:
        answer = httpx2.get(f"http://127.0.0.1:{port}/health/ready")
        if answer.status_code == 200:
            body: dict[str, Any] = answer.json()
            return body
        assert time.monotonic() < deadline, log.read_text()
        time.sleep(0.1)


def check_proxy(place: Place, stack: ExitStack) -> None:
    """nginx passes requests on, and hides the metrics."""
    config = place.folder / "nginx.conf"
    server = place.move(find_block("nginx", "limit_conn_zone"))
    paths = " ".join(
        f"{name}_temp_path {place.folder}/{name};"
        for name in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    )
    config.write_text(f"events {{}}\nhttp {{ access_log off; {paths}\n{server}}}\n")
    options = f"daemon off; pid {place.folder}/nginx.pid; error_log stderr;"
    log = place.folder / "nginx.log"
    command = ["nginx", "-p", str(place.folder), "-c", str(config), "-g", options]
    stack.enter_context(process(place.proxy, log, *command))
    authority = ssl.create_default_context(cafile=str(place.folder / "ca.pem"))
    with httpx2.Client(base_url=f"https://127.0.0.1:{place.proxy}", verify=authority) as client:
        name = {"Host": "service.example.com"}
        assert client.get("/health/live", headers=name).json() == {"status": "ok"}
        assert client.get("/metrics", headers=name).status_code == 404
        form = {"email": "ada@example.com", "password": "correct horse", "display_name": "Ada"}
        answer = client.post("/signup", json=form, headers=name)
        assert answer.is_success, answer.text


def run_mail(place: Place, stack: ExitStack) -> str:
    """Start a server that catches mail, and return the setting of the service."""
    port = free_port()
    started = start_server(MAIL, place.folder / MAIL.name, port)
    stack.callback(started.wait)
    stack.callback(started.kill)
    return MAIL.url(port)


def test_a_service_on_servers_as_the_page_sets_them_up(place: Place):
    with ExitStack() as stack:
        variables = {
            "ENVIRONMENT": "production",
            "SECRET_KEY": place.run(find_block("sh", "openssl rand -hex")).strip(),
            "MONGODB_URL": run_mongodb(place, stack),
            "REDIS_URL": run_valkey(place, stack),
            "SMTP_URL": run_mail(place, stack),
            "MAIL_FROM": "no-reply@example.com",
            "PUBLIC_URL": "https://service.example.com",
            "BLOB_URL": str(place.folder / "blobs"),
            "PORT": str(place.web),
            "WORKER_PORT": str(place.worker),
        }
        logs = {name: place.folder / f"{name}.log" for name in ("web", "worker")}
        core = [sys.executable, "-m", "core"]
        for name in ("worker", "web"):  # both start at the same time
            stack.enter_context(process(None, logs[name], *core, name, **variables))
        wait_until_listening(place.web, logs["web"])
        wait_until_listening(place.worker, logs["worker"])
        ready = wait_until_ready(place.web, logs["web"])
        # A note would say that the server does not keep jobs, or that it lacks a right.
        assert ready == {
            "status": "ok",
            "checks": {"database": "ok", "queue": "ok", "schedules": "ok"},
        }
        wait_until_ready(place.worker, logs["worker"])
        check_proxy(place, stack)
        done = subprocess.run(
            [*core, "drain"], env={**os.environ, **variables}, capture_output=True, timeout=SECONDS
        )
        assert done.returncode == 0, done.stderr
        (mail,) = (place.folder / MAIL.name / MAILDIR / "new").iterdir()
        assert "To: ada@example.com" in mail.read_text()


async def is_stored(folder: Path, job_id: str) -> bool:
    """Return whether the append-only file has a job. The server may write it a second later."""
    return any(job_id.encode() in file.read_bytes() for file in folder.iterdir())


async def test_a_copy_of_the_queue_has_its_jobs(place: Place, settings: Settings):
    """The page copies `appendonlydir` of a running server, and puts it into another one.

    Redis 7 loses all jobs here if the user `default` has no rights.
    """
    tasks = Worker()

    @tasks.task
    async def ship() -> None: ...

    data, saved = place.folder / "queue" / "appendonlydir", place.folder / "saved"
    with ExitStack() as stack:
        url = run_valkey(place, stack)
        queue = {"redis_url": url, "task_engine": "redis", "queue_name": "default"}
        changed = settings.model_copy(update=queue)
        async with tasks.open(changed):
            job = await ship.enqueue()
            await eventually(lambda: is_stored(data, job.id))
            shutil.copytree(data, saved)
    shutil.rmtree(data)
    saved.rename(data)
    with ExitStack() as stack:
        run_valkey(place, stack)
        async with tasks.open(changed):
            assert await tasks.job(job.id).status() == "pending"


def test_no_command_of_the_page_is_forgotten():
    commands = [line for block in read_blocks("sh") for line in block.splitlines()]
    starts = ("openssl ", "for ", "    ", "done", "chmod ", IMAGE, *NOT_RUN)
    assert not [line for line in commands if not line.startswith(starts)]

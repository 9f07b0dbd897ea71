"""Real servers from PATH or from wheels: MongoDB, Valkey, and an SMTP server that keeps emails.

All of them are for development only: the MongoDB of the Linux wheel is 6.0.5, which no longer
gets security fixes.
"""

import secrets
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pymongo import MongoClient
from pymongo.database import Database
from pymongo.errors import OperationFailure

from core.dev.programs import find_mongod, find_valkey
from core.errors import UserError
from core.local_servers import MAILDIR
from core.tasks.engines import DEFAULT

HOST = "127.0.0.1"
START_SECONDS = 30.0
POLL_SECONDS = 0.02
FREE_PORTS = range(20000, 32768)
"""Ports that Linux and macOS never give to a connection that a program opens."""
REPLICA_SET = "rs0"
ALREADY_INITIALIZED = 23
"""MongoDB's error code for a second `replSetInitiate`."""
LIBRARY_MISSING = "error while loading shared libraries"
LIBRARIES = "On Debian and Ubuntu, run `apt-get install libcurl4 libssl3`, which mongod needs."


@dataclass(frozen=True)
class Server:
    """A kind of server, and how to run it.

    Attributes:
        name: The name in output and in file names.
        setting: The setting with the server's URL.
        url: Returns the URL for a port.
        command: Returns the command line for a port and a data folder.
        prepare: Is called with the port when the server listens.
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
    return [find_mongod(), "--dbpath", str(data), "--port", str(port), *options]


def _valkey_command(port: int, data: Path) -> list[str]:
    persistence = ["--appendonly", "yes", "--save", ""]
    return [
        find_valkey(),
        "--bind",
        HOST,
        "--port",
        str(port),
        "--dir",
        str(data),
        *persistence,
    ]


def _mail_command(port: int, data: Path) -> list[str]:
    # aiosmtpd creates a Maildir only if the folder does not exist, and `data` exists.
    handler = ["-c", "aiosmtpd.handlers.Mailbox", str(data / MAILDIR)]
    return [sys.executable, "-m", "aiosmtpd", "-n", "-l", f"{HOST}:{port}", *handler]


def _initiate_replica_set(port: int) -> None:
    """Make the server a replica set of one member, because transactions need a replica set."""
    host = f"{HOST}:{port}"
    members = [{"_id": 0, "host": host}]
    with MongoClient[dict[str, Any]](HOST, port, directConnection=True) as client:
        admin = client.admin
        try:
            admin.command("replSetInitiate", {"_id": REPLICA_SET, "members": members})
        except OperationFailure as error:
            if error.code != ALREADY_INITIALIZED:
                raise
            _move_member(admin, host)
        deadline = time.monotonic() + START_SECONDS
        while not admin.command("hello")["isWritablePrimary"]:
            if time.monotonic() > deadline:
                raise UserError("mongod did not become primary. Read its log.")
            time.sleep(POLL_SECONDS)


def _move_member(admin: Database[dict[str, Any]], host: str) -> None:
    """Give the member its new address if its port has changed since the last start."""
    config = admin.command("replSetGetConfig")["config"]
    (member,) = config["members"]
    if member["host"] == host:
        return
    member["host"] = host
    config["version"] += 1
    admin.command("replSetReconfig", config, force=True)


def _mongodb_url(port: int) -> str:
    return f"mongodb://{HOST}:{port}/?directConnection=true"


def _valkey_url(port: int) -> str:
    return f"redis://{HOST}:{port}/0"


def _mail_url(port: int) -> str:
    return f"smtp://{HOST}:{port}"


MONGODB = Server("mongod", "MONGODB_URL", _mongodb_url, _mongod_command, _initiate_replica_set)
VALKEY = Server("valkey", "REDIS_URL", _valkey_url, _valkey_command)
MAIL = Server("mail", "SMTP_URL", _mail_url, _mail_command)


def needed_servers() -> list[Server]:
    """Return the servers that this service uses. Without the job queue, Valkey is not needed."""
    if DEFAULT == "local":
        return [MONGODB, MAIL]
    return [MONGODB, VALKEY, MAIL]


def start_server(
    server: Server,
    data: Path,
    port: int,
    on_start: Callable[[subprocess.Popen[bytes]], object] = lambda process: None,
) -> subprocess.Popen[bytes]:
    """Start a server and wait until it can be used.

    Args:
        server: The kind of server.
        data: The server's folder, created if it is missing. The log is next to the folder.
        port: A port of the loopback interface.
        on_start: Is called with the process before this function waits for the server.

    Returns:
        The server's process, which leads a process group.

    Raises:
        UserError: The server's program is not installed, or the server did not start. The message
            names the log.
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
    on_start(process)
    deadline = time.monotonic() + START_SECONDS
    while not is_listening(port):
        if process.poll() is not None or time.monotonic() > deadline:
            process.kill()
            raise UserError(f"{server.name} did not start. {_describe_log(log)}")
        time.sleep(POLL_SECONDS)
    server.prepare(port)
    return process


def _describe_log(log: Path) -> str:
    lines = log.read_text(errors="replace").splitlines()
    written = [line for line in lines if line.strip()]
    if not written:
        return f"Its log {log} is empty."
    description = f"Its log {log} ends with: {written[-1][:300]}"
    if LIBRARY_MISSING in written[-1]:
        return f"{description}. {LIBRARIES}"
    return description


def free_port() -> int:
    """Return a port of the loopback interface that no program uses now."""
    while True:
        port = secrets.choice(FREE_PORTS)
        with socket.socket() as probe, suppress(OSError):
            probe.bind((HOST, port))
            return port


def is_listening(port: int, host: str = HOST) -> bool:
    """Return whether a program accepts connections.

    Args:
        port: The port.
        host: The host name or IP address.
    """
    with socket.socket() as probe:
        probe.settimeout(0.5)
        return probe.connect_ex((host, port)) == 0

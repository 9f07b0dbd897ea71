"""Servers and workers for a driver. `rendering.py` copies this file into the service."""

import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from core.dev.servers import VALKEY, Server, free_port, is_listening, start_server

VALKEY_WITHOUT_PERSISTENCE = replace(
    VALKEY,
    command=lambda port, data: [*VALKEY.command(port, data), "--appendonly", "no"],
)


Restart = Callable[[], None]


@contextmanager
def run_servers(folder: Path, *servers: Server) -> Iterator[Restart]:
    """Run servers until the block ends. The environment then names their URLs.

    Args:
        folder: The folder for their data.
        *servers: The servers to run.

    Yields:
        A function that restarts the first server. It keeps the data that it has on disk.
    """
    ports = [free_port() for _ in servers]
    processes: list[subprocess.Popen[bytes]] = []

    def start(number: int) -> subprocess.Popen[bytes]:
        server = servers[number]
        return start_server(server, folder / server.name, ports[number])

    def restart() -> None:
        processes[0].terminate()
        processes[0].wait()
        processes[0] = start(0)

    try:
        for number, server in enumerate(servers):
            processes.append(start(number))
            os.environ[server.setting] = server.url(ports[number])
        yield restart
    finally:
        for process in processes:
            stop(process)


@contextmanager
def run_rabbitmq(folder: Path) -> Iterator[Restart]:
    """Run RabbitMQ until the block ends. `BROKER_URL` in the environment then names its URL.

    Args:
        folder: The folder for its data.

    Yields:
        A function that stops it, and starts it again.
    """
    from core.tests.rabbitmq import RabbitMQ  # only services with Celery have this module

    server = RabbitMQ(folder / "rabbitmq")

    def restart() -> None:
        server.stop()
        server.start()

    try:
        server.start()
        os.environ["BROKER_URL"] = server.url
        yield restart
    finally:
        os.environ.pop("BROKER_URL", None)
        server.kill()  # and the process that maps its ports


@contextmanager
def run_worker(log: Path, *options: str) -> "Iterator[subprocess.Popen[bytes]]":
    """Run a worker process until the block ends, and yield it.

    Args:
        log: The file for its log.
        *options: Further options of its command line.
    """
    command = [sys.executable, "-m", "core", "worker", *options]
    with log.open("wb") as output:
        worker = subprocess.Popen(command, stdout=output, stderr=output)
    try:
        yield worker
    finally:
        stop(worker)


@contextmanager
def run_web(log: Path, port: int) -> "Iterator[subprocess.Popen[bytes]]":
    """Run a web process until the block ends, and yield it when it listens.

    Args:
        log: The file for its log.
        port: Its port.
    """
    command = [sys.executable, "-m", "core", "web"]
    environment = os.environ | {"PORT": str(port)}
    with log.open("wb") as output:
        web = subprocess.Popen(command, env=environment, stdout=output, stderr=output)
    try:
        while not is_listening(port):
            time.sleep(0.05)
        yield web
    finally:
        stop(web)


def stop(process: "subprocess.Popen[bytes]") -> None:
    """Kill a process, and wait until it has ended."""
    process.kill()
    process.wait()

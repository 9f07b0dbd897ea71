"""Servers and workers for a driver. `rendering.py` copies this file into the service."""

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from core.dev.servers import VALKEY, Server, free_port, start_server

VALKEY_WITHOUT_PERSISTENCE = replace(
    VALKEY,
    command=lambda port, data: [*VALKEY.command(port, data), "--appendonly", "no"],
)


@contextmanager
def run_servers(folder: Path, *servers: Server) -> Iterator[None]:
    """Run servers until the block ends. The environment then names their URLs.

    Args:
        folder: The folder for their data.
        *servers: The servers to run.
    """
    processes: list[subprocess.Popen[bytes]] = []
    try:
        for server in servers:
            port = free_port()
            processes.append(start_server(server, folder / server.name, port))
            os.environ[server.setting] = server.url(port)
        yield
    finally:
        for process in processes:
            stop(process)


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


def stop(process: "subprocess.Popen[bytes]") -> None:
    """Kill a process, and wait until it has ended."""
    process.kill()
    process.wait()

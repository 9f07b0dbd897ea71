"""Servers for a driver. `rendering.py` copies this file into the service, next to the driver."""

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from core.dev.servers import Server, free_port, start_server


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


def stop(process: "subprocess.Popen[bytes]") -> None:
    """Kill a process, and wait until it has ended."""
    process.kill()
    process.wait()

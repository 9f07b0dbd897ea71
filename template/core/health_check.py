"""The health check of a container: `python -m core.health_check`.

The command line of the container's first process shows whether it is the web process or a worker.
"""

import os
import sys
from http.client import HTTPConnection, HTTPException
from pathlib import Path

SECONDS = 4.0
FIRST_PROCESS = Path("/proc/1/cmdline")


def find_port(command: str) -> int:
    """Return the port on which a process serves `/health/live`.

    Args:
        command: The command line of the process, such as `python -m core worker`.

    Raises:
        ValueError: A variable is not a port, or a worker has none.
    """
    name, default = ("WORKER_PORT", "") if "worker" in command.split() else ("PORT", "8000")
    port = os.environ.get(name) or default
    if not port.isdecimal():
        raise ValueError(f"{name} must be the port of the health check, not {port!r}")
    return int(port)


def is_live(port: int) -> bool:
    """Return whether the process on a port of this container answers that it is live.

    Args:
        port: The port.
    """
    connection = HTTPConnection("127.0.0.1", port, timeout=SECONDS)
    try:
        connection.request("GET", "/health/live")
        return connection.getresponse().status == 200
    except (OSError, HTTPException):
        return False
    finally:
        connection.close()


if __name__ == "__main__":
    command = FIRST_PROCESS.read_text().replace("\0", " ")
    try:
        sys.exit(not is_live(find_port(command)))
    except ValueError as error:
        sys.exit(f"error: {error}")

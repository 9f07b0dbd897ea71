"""The servers that one `just dev` runs, and the servers that others run."""

import os
import time
from contextlib import ExitStack
from pathlib import Path
from urllib.parse import urlsplit

from dotenv import dotenv_values

from core.dev.processes import Child, Guard, say
from core.dev.servers import (
    START_SECONDS,
    Server,
    free_port,
    is_listening,
    start_server,
)
from core.errors import UserError
from core.local_servers import FOLDER, claim, read_variables
from core.tasks.engines import DEFAULT

POLL_SECONDS = 0.05


class OwnServer(Child):
    """A server that this `just dev` runs, and starts again if it ends."""

    def __init__(self, server: Server, port: int, guard: Guard) -> None:
        super().__init__(server.name, guard)
        self._server = server
        self._port = port

    def start(self) -> None:
        """Start the server and wait until it can be used.

        Raises:
            UserError: The server did not start.
        """
        start_server(
            self._server,
            FOLDER / self.name,
            self._port,
            self.watch,
        )

    def keep_running(self) -> None:
        """Start the server again if it has ended."""
        status = self.take_status()
        if status is None:
            return
        say(f"{self.name} ended with status {status}, starting it again")
        try:
            self.start()
        except UserError as error:
            say(str(error))
            self.forget()  # one attempt: the cause will not pass on its own


def plan_servers(
    servers: list[Server],
    guard: Guard,
    stack: ExitStack,
) -> tuple[list[OwnServer], list[str]]:
    """Decide where each server runs, and set the settings with their URLs.

    Args:
        servers: The servers that the service needs.
        guard: The guard that watches this process's servers.
        stack: Holds the locks of this process's servers.

    Returns:
        The servers that this process has to start, and a line about each server. A setting names
        the other servers, or another `just dev` of this project runs them.

    Raises:
        UserError: A server of another `just dev` is not listening.
    """
    variables = read_variables()
    own = []
    lines = []
    for server in servers:
        broker = variables.get("BROKER_URL") if DEFAULT == "celery" else None
        if broker and server.setting == "REDIS_URL":
            lines.append(f"{'broker':<8} {broker.rpartition('@')[2]} (from BROKER_URL)")
            continue
        url = variables.get(server.setting)
        if url:
            address = url.rpartition("@")[2]
            lines.append(f"{server.name:<8} {address} (from {server.setting})")
            continue
        if stack.enter_context(claim(server.name)):
            port = _choose_port(server)
            own.append(OwnServer(server, port, guard))
            remark = ""
        else:
            port = _find_port(server)
            remark = " (another `just dev` runs and stops it)"
        url = server.url(port)
        os.environ[server.setting] = url
        lines.append(f"{server.name:<8} {url}{remark}")
    return own, lines


def _url_file(server: Server) -> Path:
    return FOLDER / f"{server.name}.env"


def _read_port(server: Server) -> int | None:
    url = dotenv_values(_url_file(server)).get(server.setting)
    return urlsplit(url).port if url else None


def _choose_port(server: Server) -> int:
    """Return the server's last port, or a new one if another program listens there."""
    port = _read_port(server)
    if port is None or is_listening(port):
        port = free_port()
        _url_file(server).write_text(f"{server.setting}={server.url(port)}\n")
    return port


def _find_port(server: Server) -> int:
    """Return the port of a server that another `just dev` runs, or is starting."""
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline:
        port = _read_port(server)
        if port and is_listening(port):
            return port
        time.sleep(POLL_SECONDS)
    problem = f"another `just dev` of this project holds {server.name}, which is not listening"
    raise UserError(f"{problem}. Stop the other `just dev` first.")

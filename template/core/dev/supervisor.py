"""`just dev`: real servers, web and worker as one thing that starts, reloads and stops together."""

import asyncio
import os
import signal
import subprocess
import time
from contextlib import ExitStack

from dotenv import dotenv_values
from watchfiles import Change, DefaultFilter, awatch

from core.config import load_settings
from core.dev.processes import Guard, Process, say, stop_process
from core.dev.servers import (
    DATA,
    MAIL,
    MAILDIR,
    START_SECONDS,
    Server,
    claim,
    free_port,
    is_listening,
    needed_servers,
    start_server,
)
from core.errors import UserError
from core.tasks.engines import DEFAULT

WATCHED = ("app", "core", ".env")
SUFFIXES = (".py", ".html", ".txt", ".env")


def remembered_port(name: str) -> int:
    """The port of this project's server: always the same one, unless something else has taken it."""
    file = DATA / f"{name}.port"
    port = int(file.read_text()) if file.exists() else 0
    if port == 0 or is_listening(port):
        port = free_port()
        file.write_text(str(port))
    return port


def port_of_the_other(name: str) -> int:
    """The port of a server that another supervisor has just claimed and may still be starting."""
    file = DATA / f"{name}.port"
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline:
        if file.exists() and (port := int(file.read_text() or 0)) and is_listening(port):
            return port
        time.sleep(0.05)
    raise UserError(
        f"another `just dev` of this project holds {name}, which does not listen; stop that one first"
    )


class OwnServer:
    """A server that this supervisor runs, and starts again where it ends."""

    def __init__(self, server: Server, port: int, guard: Guard) -> None:
        self._server, self._port, self._guard = server, port, guard
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        self._process = start_server(
            self._server, DATA / self._server.name, self._port, self._guard.watch
        )

    def keep_running(self) -> None:
        """Start it again where it has ended by itself."""
        if self._process and self._process.poll() is not None:
            say(
                f"{self._server.name} ended with status {self._process.returncode}, starting it again"
            )
            self._guard.forget(self._process)
            self._process = None
            try:
                self.start()
            except UserError as error:
                say(str(error))

    async def stop(self) -> None:
        if self._process:
            await stop_process(self._process, self._guard)


def plan_servers(servers: list[Server], guard: Guard, stack: ExitStack) -> list[OwnServer]:
    """Find out where each server is or will be, and set the settings that name them.

    Returns:
        Those that are neither named by a setting nor run by another `just dev` of this project.
    """
    configured = {**dotenv_values(".env"), **os.environ}
    own = []
    for server in servers:
        if url := configured.get(server.setting):
            say(f"{server.name:<8} {url.rpartition('@')[2]} (from {server.setting})")
            continue
        if stack.enter_context(claim(server.name)):
            port, remark = remembered_port(server.name), ""
            own.append(OwnServer(server, port, guard))
        else:
            port, remark = (
                port_of_the_other(server.name),
                " (of another `just dev`, and stops with it)",
            )
        os.environ[server.setting] = server.url(port)
        say(f"{server.name:<8} {server.url(port)}{remark}")
    return own


class Reloader(DefaultFilter):
    """Sees changes of code, templates and settings only."""

    def __call__(self, change: Change, path: str) -> bool:
        return path.endswith(SUFFIXES) and super().__call__(change, path)


async def run_development(only: str | None) -> int:
    """Run until Ctrl-C.

    Args:
        only: `web` or `worker` to start just this one beside the servers; both where None.

    Returns:
        The exit status.

    Raises:
        UserError: A setting is wrong, a server did not start, or the web's port is taken.
    """
    names = ["web"] if DEFAULT == "local" else ["web", "worker"]
    if only == "worker" and "worker" not in names:
        print("The job queue is off: jobs run in the web process, and there is no worker to start.")
        return 0
    stop = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    guard = Guard()
    processes: list[Process] = []
    servers: list[OwnServer] = []
    with ExitStack() as stack:
        stack.callback(guard.close)
        try:
            planned = plan_servers(needed_servers(), guard, stack)
            settings = load_settings()
            if only != "worker" and is_listening(settings.port, settings.host):
                raise UserError(f"port {settings.port} is in use; set PORT to another one")
            for server in planned:
                servers.append(server)
                server.start()
            if only != "worker":
                say(f"{'web':<8} http://{settings.host}:{settings.port} (pages of the API: /docs)")
            say(f"{'caught':<8} {(DATA / MAIL.name / MAILDIR).resolve()} holds every mail")
            processes = [Process(name, guard) for name in names if only in (None, name)]
            for process in processes:
                process.start()
            await _reload(processes, servers, stop)
        finally:
            say("stopping")
            await asyncio.gather(*(process.stop() for process in processes))
            await asyncio.gather(*(server.stop() for server in servers))
    return 0


async def _reload(processes: list[Process], servers: list[OwnServer], stop: asyncio.Event) -> None:
    watching = awatch(
        *(path for path in WATCHED if os.path.exists(path)),
        watch_filter=Reloader(),
        stop_event=stop,
        rust_timeout=500,
        yield_on_timeout=True,  # so that a process that ended is noticed
    )
    async for changes in watching:
        if changes:
            say(f"{os.path.basename(next(iter(changes))[1])} changed, starting again")
            await asyncio.gather(*(process.stop() for process in processes))
            for process in processes:
                process.start()
        for process in processes:
            process.report_end()
        for server in servers:
            server.keep_running()

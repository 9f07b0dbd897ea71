"""`just dev`: real servers, web and worker as one thing that starts, reloads and stops together."""

import asyncio
import fcntl
import os
import signal
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from dotenv import dotenv_values
from watchfiles import Change, DefaultFilter, awatch

from core.config import load_settings
from core.dev.processes import Guard, Process, say, stop_process
from core.dev.servers import MAIL, MAILDIR, Server, free_port, is_listening, needed_servers, start_server
from core.errors import UserError
from core.tasks.engines import DEFAULT

DATA = Path(".dev")
WATCHED = ("app", "core", ".env")
SUFFIXES = (".py", ".html", ".txt", ".env")


@contextmanager
def claim(name: str) -> Iterator[bool]:
    """Whether this supervisor is the one that runs a server of this project; another one may."""
    DATA.mkdir(exist_ok=True)
    with (DATA / f"{name}.lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield False
        else:
            yield True


def remembered_port(name: str) -> int:
    """The port of this project's server: always the same one, unless something else has taken it."""
    file = DATA / f"{name}.port"
    port = int(file.read_text()) if file.exists() else 0
    if port == 0 or is_listening(port):
        port = free_port()
        file.write_text(str(port))
    return port


def start_servers(
    servers: list[Server], guard: Guard, stack: ExitStack
) -> tuple[dict[str, str], list["subprocess.Popen[bytes]"]]:
    """Start what is neither named by a setting nor run by another `just dev` of this project.

    Returns:
        The settings that name the servers, and the processes that were started.
    """
    configured = {**dotenv_values(".env"), **os.environ}
    environment: dict[str, str] = {}
    processes = []
    for server in servers:
        if url := configured.get(server.setting):
            say(f"{server.name:<8} {url.rpartition('@')[2]} (from {server.setting})")
            continue
        if stack.enter_context(claim(server.name)):
            port = remembered_port(server.name)
            processes.append(guard.watch(start_server(server, DATA / server.name, port)))
            environment[server.setting] = server.url(port)
            say(f"{server.name:<8} {environment[server.setting]}")
        else:
            port = int((DATA / f"{server.name}.port").read_text())
            environment[server.setting] = server.url(port)
            say(f"{server.name:<8} {environment[server.setting]} (of another `just dev`)")
    return environment, processes


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
    servers: list[subprocess.Popen[bytes]] = []
    with ExitStack() as stack:
        stack.callback(guard.close)
        try:
            environment, servers = start_servers(needed_servers(), guard, stack)
            os.environ.update(environment)
            settings = load_settings()
            processes = [Process(name, guard) for name in names if only in (None, name)]
            if only != "worker":
                if is_listening(settings.port, settings.host):
                    raise UserError(f"port {settings.port} is in use; set PORT to another one")
                say(f"{'web':<8} http://{settings.host}:{settings.port} (pages of the API: /docs)")
            say(f"{'caught':<8} {(DATA / MAIL.name / MAILDIR).resolve()} holds every mail")
            for process in processes:
                process.start()
            await _reload(processes, stop)
        finally:
            say("stopping")
            await asyncio.gather(*(process.stop() for process in processes))
            await asyncio.gather(*(stop_process(server, guard) for server in servers))
    return 0


async def _reload(processes: list[Process], stop: asyncio.Event) -> None:
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

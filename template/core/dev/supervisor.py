"""`just dev`: real servers, web and worker as one thing that starts, reloads and stops together."""

import asyncio
import fcntl
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from dotenv import dotenv_values
from watchfiles import Change, DefaultFilter, awatch

from core.config import load_settings
from core.dev.servers import MAIL, MAILDIR, Server, free_port, is_listening, needed_servers, start_server
from core.errors import UserError
from core.tasks.engines import DEFAULT

DATA = Path(".dev")
STOP_SECONDS = 35.0
WATCHED = ("app", "core", ".env")
SUFFIXES = (".py", ".html", ".txt", ".env")


def say(text: str) -> None:
    """A line of the supervisor's own."""
    print(f"dev | {text}", flush=True)


class Guard:
    """The process that ends the children when this one is killed."""

    def __init__(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "core.dev.guard"], stdin=subprocess.PIPE, start_new_session=True, text=True
        )

    def watch(self, process: "subprocess.Popen[bytes]") -> "subprocess.Popen[bytes]":
        """End this process too, should the supervisor be killed. It leads a process group of its own."""
        self._tell(f"+{process.pid}")
        return process

    def forget(self, process: "subprocess.Popen[bytes]") -> None:
        """It has ended."""
        self._tell(f"-{process.pid}")

    def close(self) -> None:
        """End the guard, and what it still watches."""
        assert self._process.stdin
        self._process.stdin.close()
        self._process.wait()

    def _tell(self, line: str) -> None:
        assert self._process.stdin
        self._process.stdin.write(line + "\n")
        self._process.stdin.flush()


async def stop_process(process: "subprocess.Popen[bytes]", guard: Guard) -> None:
    """Ask a process to end, and kill it where it does not."""
    process.terminate()
    try:
        await asyncio.to_thread(process.wait, STOP_SECONDS)
    except subprocess.TimeoutExpired:
        say(f"process {process.pid} did not stop within {STOP_SECONDS:.0f} s and was killed")
        process.kill()
        await asyncio.to_thread(process.wait)
    guard.forget(process)


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


class Process:
    """Web or worker, which are started again after each change."""

    def __init__(self, name: str, guard: Guard) -> None:
        self.name = name
        self._guard = guard
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        command = [sys.executable, "-m", "core", self.name]
        self._process = self._guard.watch(subprocess.Popen(command, start_new_session=True))

    async def stop(self) -> None:
        if self._process:
            await stop_process(self._process, self._guard)

    def report_end(self) -> None:
        """Say once where it ended by itself; the next change starts it again."""
        if self._process and self._process.poll() is not None:
            say(f"{self.name} ended with status {self._process.returncode}; it starts again after the next change")
            self._guard.forget(self._process)
            self._process = None


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

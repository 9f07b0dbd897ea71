"""`just dev`: servers, web and worker, which start, reload and stop together."""

import asyncio
import signal
import sys
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path

from watchfiles import Change, DefaultFilter, awatch
from watchfiles.main import FileChange

from core.config import ROOT, Settings, load_settings
from core.dev.core_processes import CoreProcess, CoreProcesses
from core.dev.own_servers import OwnServer, plan_servers
from core.dev.processes import Guard, say
from core.dev.servers import (
    is_listening,
    needed_servers,
)
from core.entry import check_own_settings
from core.errors import UserError
from core.local_servers import FOLDER
from core.tasks.engines import DEFAULT

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
WATCHED = ("app", "core", ".env")
SUFFIXES = (".py", ".html", ".txt", ".env")
CHECK_MILLISECONDS = 100
"""How often to look for processes that have started or ended."""
FIRST_START = " (the first start takes longer, because Python compiles the packages)"


async def run_development(only: str | None) -> int:
    """Run until Ctrl-C.

    Args:
        only: `web` or `worker` to start one of them with the servers. Both start if None.

    Returns:
        The exit status: 128 and the number of the signal, as in shells.

    Raises:
        UserError: A setting is wrong, a server did not start, or the web's port is in use.
    """
    names = ["web"] if DEFAULT == "local" else ["web", "worker"]
    if only and only not in names:
        print("The job queue is off: jobs run in the web process. There is no worker to start.")
        return 0
    if only:
        names = [only]
    status = 0
    stop = asyncio.Event()

    def receive(number: int) -> None:
        nonlocal status
        status = 128 + number
        stop.set()

    for number in SIGNALS:
        asyncio.get_running_loop().add_signal_handler(number, receive, number)
    await _run(names, stop)
    return status


async def _run(names: list[str], stop: asyncio.Event) -> None:
    is_first = not FOLDER.exists()
    with ExitStack() as stack:
        guard = Guard()
        stack.callback(guard.close)
        servers, lines = plan_servers(needed_servers(), guard, stack)
        settings = _check_settings(names)
        for line in lines:
            say(line)
        if "web" in names:
            say(f"emails   http://{settings.host}:{settings.port}/dev/mail")
        say(f"starting{FIRST_START if is_first else ''}")
        processes = CoreProcesses([CoreProcess(name, guard) for name in names])
        try:
            for server in servers:
                server.start()
            await processes.restart()
            await _watch(servers, processes, stop)
        finally:
            say("stopping")
            await processes.stop()
            await asyncio.gather(*(server.stop() for server in servers))


def _check_settings(names: list[str]) -> Settings:
    """Refuse wrong settings and a port in use, before anything starts. Return the settings."""
    settings = load_settings()
    check_own_settings(settings.service)
    if "web" in names and is_listening(settings.port, settings.host):
        raise UserError(f"port {settings.port} is in use. Set PORT to another port.")
    return settings


class _CodeFilter(DefaultFilter):
    """Lets changes of code, templates and settings through."""

    def __call__(self, change: Change, path: str) -> bool:
        return path.endswith(SUFFIXES) and super().__call__(change, path)


async def _watch(
    servers: Sequence[OwnServer],
    processes: CoreProcesses,
    stop: asyncio.Event,
) -> None:
    """Restart web and worker after each change, and servers that end, until `stop` is set.

    If the terminal closes, stop too. Its signal may have reached only uv, which waits for us.
    """
    has_terminal = sys.stderr.isatty()
    paths = [ROOT / name for name in WATCHED]
    watching = awatch(
        *(path for path in paths if path.exists()),
        watch_filter=_CodeFilter(),
        stop_event=stop,
        rust_timeout=CHECK_MILLISECONDS,
        yield_on_timeout=True,
    )
    async for changes in watching:
        if has_terminal and not sys.stderr.isatty():
            return
        if changes:
            say(f"{_describe_changes(changes)} changed, starting again")
            await processes.restart()
        processes.report()
        for server in servers:
            server.keep_running()


def _describe_changes(changes: set[FileChange]) -> str:
    first, *others = sorted({path for _, path in changes})
    more = f" and {len(others)} more" if others else ""
    return f"{Path(first).relative_to(ROOT)}{more}"

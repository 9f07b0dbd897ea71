"""`just dev`: servers, web and worker, which start, reload and stop together."""

import asyncio
import os
import signal
from collections.abc import Sequence
from contextlib import ExitStack

from watchfiles import Change, DefaultFilter, awatch

from core.config import ROOT, load_settings
from core.dev.own_servers import OwnServer, plan_servers
from core.dev.processes import Child, CoreProcess, Guard, say
from core.dev.servers import (
    MAIL,
    MAILDIR,
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
CHECK_MILLISECONDS = 500
"""How often to look for processes that have ended."""


async def run_development(only: str | None) -> int:
    """Run until Ctrl-C.

    Args:
        only: `web` or `worker` to start one of them with the servers. Both start if None.

    Returns:
        The exit status.

    Raises:
        UserError: A setting is wrong, a server did not start, or the web's port is in use.
    """
    names = ["web"] if DEFAULT == "local" else ["web", "worker"]
    if only and only not in names:
        print("The job queue is off: jobs run in the web process. There is no worker to start.")
        return 0
    if only:
        names = [only]
    stop = asyncio.Event()
    for number in SIGNALS:
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    with ExitStack() as stack:
        guard = Guard()
        stack.callback(guard.close)
        servers = plan_servers(needed_servers(), guard, stack)
        processes = [CoreProcess(name, guard) for name in names]
        try:
            _start(servers, processes)
            await _reload(servers, processes, stop)
        finally:
            say("stopping")
            await _stop(processes)
            await _stop(servers)
    return 0


def _start(servers: list[OwnServer], processes: list[CoreProcess]) -> None:
    settings = load_settings()
    check_own_settings(settings)
    web_url = f"http://{settings.host}:{settings.port}"
    has_web = any(process.name == "web" for process in processes)
    if has_web and is_listening(settings.port, settings.host):
        raise UserError(f"port {settings.port} is in use. Set PORT to another port.")
    for server in servers:
        server.start()
    if has_web:
        say(f"web      {web_url} (API documentation: /docs)")
    say(f"emails   {FOLDER / MAIL.name / MAILDIR}")
    for process in processes:
        process.start()


async def _stop(children: Sequence[Child]) -> None:
    await asyncio.gather(*(child.stop() for child in children))


class _CodeFilter(DefaultFilter):
    """Lets changes of code, templates and settings through."""

    def __call__(self, change: Change, path: str) -> bool:
        return path.endswith(SUFFIXES) and super().__call__(change, path)


async def _reload(
    servers: list[OwnServer],
    processes: list[CoreProcess],
    stop: asyncio.Event,
) -> None:
    """Restart web and worker after each change, and servers that end, until `stop` is set."""
    paths = [ROOT / name for name in WATCHED]
    watching = awatch(
        *(path for path in paths if path.exists()),
        watch_filter=_CodeFilter(),
        stop_event=stop,
        rust_timeout=CHECK_MILLISECONDS,
        yield_on_timeout=True,
    )
    async for changes in watching:
        if changes:
            _, path = next(iter(changes))
            say(f"{os.path.basename(path)} changed, starting again")
            await _stop(processes)
            for process in processes:
                process.start()
        for process in processes:
            process.report_end()
        for server in servers:
            server.keep_running()

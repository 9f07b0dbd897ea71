"""The HTTP server of the web process."""

import gc
import logging
import socket
from contextlib import suppress

import uvicorn
from fastapi import FastAPI

from core.config import Settings
from core.errors import UserError
from core.logging import get_logger
from core.supervised import tell_started
from core.tasks.time_limits import leave_abandoned
from core.web.protocol import TimedProtocol
from core.web.startup import StartedApp

logger = get_logger(__name__)


class _Server(uvicorn.Server):
    """A server that reports when it listens."""

    def __init__(self, config: uvicorn.Config, pages: str) -> None:
        super().__init__(config)
        self._pages = pages

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        if not self.started:
            return
        # Otherwise a large JSON body makes the collector pass over all modules several times.
        gc.freeze()
        host, port = self.config.host, self.config.port
        logger.info("web started", host=host, port=port)
        pages = f" ({self._pages})" if self._pages else ""
        tell_started(f"http://{host}:{port}{pages}")

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        await super().shutdown(sockets)
        leave_abandoned()
        # uvicorn raises the signal again, which ends the process before its last lines are written.
        for handler in logging.getLogger().handlers:
            handler.flush()


def _list_pages(app: FastAPI, settings: Settings) -> str:
    """Return the pages for a person, with their paths, as text."""
    console = f":{settings.console_port}/console" if settings.console_port else "/console"
    pages = {"console": console if settings.console_enabled else None, "API": app.docs_url}
    return ", ".join(f"{name}: {path}" for name, path in pages.items() if path)


def _listen(settings: Settings) -> list[socket.socket] | None:
    """Return two sockets if the console has its own port. Otherwise uvicorn opens one."""
    if not (settings.console_enabled and settings.console_port):
        return None
    family = socket.AF_INET6 if ":" in settings.host else socket.AF_INET
    sockets = []
    for port in (settings.port, settings.console_port):
        try:
            sockets.append(socket.create_server((settings.host, port), family=family))
        except OSError as error:
            address = f"{settings.host}:{port}"
            raise UserError(f"cannot listen on {address}: {error.strerror}") from None
    return sockets


def serve(app: FastAPI, settings: Settings) -> int:
    """Serve an application until SIGINT or SIGTERM.

    Args:
        app: The application.
        settings: The settings with the address.

    Returns:
        The exit status.

    Raises:
        UserError: The application did not start, or cannot listen; the message says why.
    """
    started_app = StartedApp(app)
    config = uvicorn.Config(
        started_app,
        host=settings.host,
        port=settings.port,
        http=TimedProtocol,
        forwarded_allow_ips=settings.forwarded_allow_ips,
        server_header=False,
        log_config=None,
        access_log=False,
        # Otherwise a pipelined request has the actor of the request before it.
        reset_contextvars=True,
        timeout_graceful_shutdown=round(settings.task_grace_period),
    )
    server = _Server(config, _list_pages(app, settings))
    try:
        with suppress(KeyboardInterrupt):  # uvicorn raises the signal again after it has stopped
            server.run(_listen(settings))
    except SystemExit:
        if started_app.error:
            raise started_app.error from None
        if server.lifespan.should_exit:  # the log has the traceback of the lifespan
            raise
        address = f"{settings.host}:{settings.port}"
        raise UserError(f"cannot listen on {address}; the log says why") from None
    return 0

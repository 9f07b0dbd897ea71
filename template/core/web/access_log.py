"""The access log, one line for each request."""

import logging
import time

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from core.logging import get_logger

logger = get_logger(__name__)

PROBES = {"/health/live", "/health/ready", "/health/backlog", "/metrics"}
FILES = "/core-static/"


def is_routine(path: str) -> bool:
    """Whether a program requests a path every few seconds, or a page loads it as its file."""
    return path in PROBES or path.startswith(FILES)


class AccessLogMiddleware:
    """Logs the method, path, status and duration of each request, including failed ones.

    Successful health checks and requests for files of pages are logged at the level DEBUG.

    Args:
        app: The application to wrap.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        started = time.perf_counter()
        status = 500

        async def send_and_note(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        try:
            await self._app(scope, receive, send_and_note)
        finally:
            seconds = time.perf_counter() - started
            is_quiet = is_routine(scope["path"]) and status < 400
            logger.log(
                logging.DEBUG if is_quiet else logging.INFO,
                "request",
                method=scope["method"],
                path=scope["path"],
                status=status,
                seconds=round(seconds, 4),
            )

"""The access log, one line for each request."""

import logging
import time

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from core.logging import get_logger

logger = get_logger(__name__)

PROBES = {"/health/live", "/health/ready", "/health/backlog", "/metrics"}
"""Programs request these paths every few seconds. Only failures are worth a line."""


class AccessLogMiddleware:
    """Logs the method, path, status and duration of each request, including failed ones.

    A successful health check is logged at the level DEBUG.

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
            is_probe = scope["path"] in PROBES and status < 400
            logger.log(
                logging.DEBUG if is_probe else logging.INFO,
                "request",
                method=scope["method"],
                path=scope["path"],
                status=status,
                seconds=round(seconds, 4),
            )

"""The port of the console: a second port of the web process, if `CONSOLE_PORT` is set."""

from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Receive, Scope, Send

from core.web.access_log import is_routine

CONSOLE = "/console"


def is_console(path: str) -> bool:
    """Whether a path belongs to the console."""
    return f"{path}/".startswith(f"{CONSOLE}/")


class ConsolePortMiddleware:
    """Answers the console only on its own port, and everything else only on the main port.

    Health checks, and the files that pages load, are answered on both ports.
    """

    def __init__(self, app: ASGIApp, port: int) -> None:
        self._app = app
        self._port = port

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        app = self._app
        path = scope.get("path", "")
        if scope["type"] != "lifespan" and not is_routine(path):
            _, port = scope["server"] or ("", None)
            if is_console(path) != (port == self._port):
                app = JSONResponse({"detail": "Not Found"}, 404)
        await app(scope, receive, send)

"""The worker's own HTTP server, for health checks and metrics."""

import json
import threading
from collections.abc import Iterable
from socketserver import ThreadingMixIn
from typing import TYPE_CHECKING
from wsgiref.simple_server import (
    WSGIRequestHandler,
    WSGIServer,
    make_server,
)

from prometheus_client import make_wsgi_app

from core.tasks.worker import Worker

if TYPE_CHECKING:
    from wsgiref.types import StartResponse, WSGIEnvironment


class _Server(ThreadingMixIn, WSGIServer):
    daemon_threads = True  # a silent client must not block the others


class _Handler(WSGIRequestHandler):
    timeout = 5

    def log_message(self, format: str, *args: object) -> None:
        """Log nothing: health checks arrive every few seconds."""


def serve_health(worker: Worker, host: str, port: int) -> None:
    """Serve `/health/live` and `/metrics` from a thread, so they answer when the loop is blocked.

    Args:
        worker: The worker of this process.
        host: The address to listen on.
        port: The port; 0 for any.
    """
    show_metrics = make_wsgi_app()

    def application(environ: "WSGIEnvironment", start_response: "StartResponse") -> Iterable[bytes]:
        if environ["PATH_INFO"] != "/health/live":
            return show_metrics(environ, start_response)  # type: ignore[no-any-return]
        problem = worker.problem
        body = {"status": "ok"}
        status = "200 OK"
        if problem is not None:
            body = {"status": "stuck", "problem": problem}
            status = "503 Service Unavailable"
        start_response(status, [("Content-Type", "application/json")])
        return [json.dumps(body).encode()]

    server = make_server(host, port, application, _Server, _Handler)
    threading.Thread(target=server.serve_forever, name="health", daemon=True).start()

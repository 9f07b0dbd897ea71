"""The HTTP server of workers, for health checks and metrics."""

import json
import threading
from collections.abc import Iterable
from socketserver import ThreadingMixIn
from typing import TYPE_CHECKING, Protocol
from wsgiref.simple_server import (
    WSGIRequestHandler,
    WSGIServer,
    make_server,
)

from prometheus_client import REGISTRY, CollectorRegistry, make_wsgi_app

from core.errors import UserError

if TYPE_CHECKING:
    from wsgiref.types import StartResponse, WSGIEnvironment


class _Checked(Protocol):
    @property
    def problem(self) -> str | None: ...
    @property
    def takes_jobs(self) -> bool: ...


class _Server(ThreadingMixIn, WSGIServer):
    daemon_threads = True  # a silent client must not block the others


class _Handler(WSGIRequestHandler):
    timeout = 5

    def log_message(self, format: str, *args: object) -> None:
        """Log nothing: health checks arrive every few seconds."""


def serve_health(
    worker: _Checked,
    host: str,
    port: int,
    registry: CollectorRegistry = REGISTRY,
) -> None:
    """Serve health checks and metrics from a thread, which a blocked event loop does not stop.

    `/health/live` fails if the worker is stuck, and `/health/ready` if it takes no jobs. Every
    other path shows the metrics.

    Args:
        worker: The worker of this process, or the supervisor.
        host: The address to listen on.
        port: The port; 0 for any.
        registry: The metrics. Defaults to the metrics of this process.

    Raises:
        UserError: Another program uses the port, or this process may not listen there.
    """
    show_metrics = make_wsgi_app(registry)
    checks = {
        "/health/live": _check_live,
        "/health/ready": _check_ready,
    }

    def application(environ: "WSGIEnvironment", start_response: "StartResponse") -> Iterable[bytes]:
        check = checks.get(environ["PATH_INFO"])
        if check is None:
            return show_metrics(environ, start_response)  # type: ignore[no-any-return]
        body = check(worker)
        is_well = body["status"] == "ok"
        status = "200 OK" if is_well else "503 Service Unavailable"
        start_response(status, [("Content-Type", "application/json")])
        return [json.dumps(body).encode()]

    try:
        server = make_server(host, port, application, _Server, _Handler)
    except OSError as error:
        problem = f"the worker cannot listen on {host}:{port} ({error.strerror or error})"
        raise UserError(f"{problem}. Change WORKER_PORT, or stop the other program.") from error
    threading.Thread(target=server.serve_forever, name="health", daemon=True).start()


def _check_live(worker: _Checked) -> dict[str, str]:
    problem = worker.problem
    if problem is not None:
        return {"status": "stuck", "problem": problem}
    return {"status": "ok"}


def _check_ready(worker: _Checked) -> dict[str, str]:
    return {"status": "ok" if worker.takes_jobs else "unavailable"}

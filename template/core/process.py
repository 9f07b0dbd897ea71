"""The two processes of the service in production: web and worker."""

import asyncio
import json
import logging
import os
import signal
import threading
from collections.abc import Iterable
from socketserver import ThreadingMixIn
from typing import TYPE_CHECKING
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer, make_server

import uvloop
from prometheus_client import make_wsgi_app

from core.config import Settings
from core.logging import configure_logging, get_logger
from core.service import Service, load_service, open_service
from core.tasks import Worker
from core.tasks.engines import build_engine
from core.tasks.worker import JOB_THREADS
from core.web import create_app

if TYPE_CHECKING:
    from wsgiref.types import StartResponse, WSGIEnvironment

logger = get_logger(__name__)

THREAD_SECONDS = 0.5
"""How long threads without work are given to end."""


def run_web(settings: Settings) -> int:
    """Serve HTTP until SIGINT or SIGTERM."""
    import uvicorn  # a worker does not need it

    configure_logging(settings, "web")
    service = load_service(settings)
    build_engine(settings)  # reports a wrong setting as one line, before uvicorn would as a traceback
    uvicorn.run(
        create_app(service, settings),
        host=settings.host,
        port=settings.port,
        log_config=None,
        access_log=False,
        timeout_graceful_shutdown=round(settings.task_grace_period),
    )
    return 0


def run_worker(settings: Settings) -> int:
    """Run jobs until SIGINT or SIGTERM."""
    configure_logging(settings, "worker")
    service = load_service(settings)
    if build_engine(settings).in_process:
        print("The job queue is off: jobs run in the web process, and there is no worker to start.")
        return 0
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(_work(service, settings))
    return 0


def leave_threads(status: int) -> None:
    """End the process although jobs in threads have not ended: Python itself would wait for them without a limit.

    Args:
        status: The exit status.
    """
    threads = [thread for thread in threading.enumerate() if thread.name.startswith(JOB_THREADS)]
    for thread in threads:
        thread.join(THREAD_SECONDS / len(threads))
    if left := [thread for thread in threads if thread.is_alive()]:
        logger.warning("jobs in threads were cut off, they will run again", count=len(left))
        logging.shutdown()
        os._exit(status)


class _HealthServer(ThreadingMixIn, WSGIServer):
    daemon_threads = True  # one client that says nothing must not hold up the others


class _QuietHandler(WSGIRequestHandler):
    timeout = 5

    def log_message(self, format: str, *args: object) -> None:
        """A probe every few seconds is no news."""


def serve_health(worker: Worker, host: str, port: int) -> None:
    """Serve `/health/live` and `/metrics`, from a thread: a blocked event loop is just what it has to tell.

    Args:
        worker: Of this process.
        host: The address to listen on.
        port: The port; 0 for any.
    """
    show_metrics = make_wsgi_app()

    def application(environ: "WSGIEnvironment", start_response: "StartResponse") -> Iterable[bytes]:
        if environ["PATH_INFO"] != "/health/live":
            return show_metrics(environ, start_response)  # type: ignore[no-any-return]
        problem = worker.problem
        status = "200 OK" if problem is None else "503 Service Unavailable"
        start_response(status, [("Content-Type", "application/json")])
        return [json.dumps({"status": "ok"} if problem is None else {"status": "stuck", "problem": problem}).encode()]

    server = make_server(host, port, application, _HealthServer, _QuietHandler)
    threading.Thread(target=server.serve_forever, name="health", daemon=True).start()


async def _work(service: Service, settings: Settings) -> None:
    stop = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    async with open_service(service, settings) as database:
        if settings.worker_port is not None:
            serve_health(service.worker, settings.host, settings.worker_port)
        logger.info("worker started", tasks=sorted(service.worker.tasks))
        ready, stopped = asyncio.create_task(database.ready.wait()), asyncio.create_task(stop.wait())
        await asyncio.wait({ready, stopped}, return_when=asyncio.FIRST_COMPLETED)
        ready.cancel()
        stopped.cancel()
        await service.worker.run(stop)
    logger.info("worker stopped")

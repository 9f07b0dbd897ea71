"""The two processes of the service in production: web and worker."""

import asyncio
import logging
import os
import signal
import threading

import uvicorn
import uvloop
from prometheus_client import start_http_server

from core.config import Settings
from core.logging import configure_logging, get_logger
from core.service import Service, load_service, open_service
from core.tasks.engines import build_engine
from core.tasks.worker import JOB_THREADS
from core.web import create_app

logger = get_logger(__name__)

THREAD_SECONDS = 0.5
"""How long threads without work are given to end."""


def run_web(settings: Settings) -> int:
    """Serve HTTP until SIGINT or SIGTERM."""
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


async def _work(service: Service, settings: Settings) -> None:
    stop = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    async with open_service(service, settings) as database:
        if settings.metrics_port is not None:
            start_http_server(settings.metrics_port, settings.host)
        logger.info("worker started", tasks=sorted(service.worker.tasks))
        ready, stopped = asyncio.create_task(database.ready.wait()), asyncio.create_task(stop.wait())
        await asyncio.wait({ready, stopped}, return_when=asyncio.FIRST_COMPLETED)
        ready.cancel()
        stopped.cancel()
        await service.worker.run(stop)
    logger.info("worker stopped")

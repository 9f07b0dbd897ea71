"""The two processes of the service in production: web and worker."""

import asyncio
import gc
import os
import signal

import uvloop

from core.config import Settings
from core.config.base import list_variables
from core.config.spelling import find_misspelled
from core.entry import Service, load_service, open_service
from core.health_server import serve_health
from core.local_servers import read_variables
from core.logging import configure_logging, get_logger
from core.supervised import tell_started
from core.tasks.engines import build_engine, find_runner
from core.tasks.time_limits import leave_abandoned
from core.traces import start_tracing, stop_tracing
from core.web import create_app
from core.worker_link import follow_supervisor
from core.worker_link import number as supervised

logger = get_logger(__name__)


def run_web(settings: Settings) -> int:
    """Serve HTTP until SIGINT or SIGTERM.

    Args:
        settings: The service's settings.

    Returns:
        The exit status.

    Raises:
        UserError: The service cannot start; the message says why.
    """
    from core.web.server import serve  # here, because a worker does not need uvicorn

    configure_logging(settings, "web")
    service = load_service(settings)
    start_tracing(settings, "web")
    _report_misspelled(service, settings)
    build_engine(settings)  # reports a wrong setting in one line, before uvicorn starts
    return serve(create_app(service, settings), settings)


def run_worker(settings: Settings) -> int:
    """Run jobs until SIGINT or SIGTERM.

    Args:
        settings: The service's settings.

    Returns:
        The exit status.
    """
    configure_logging(settings, "worker")
    service = load_service(settings)
    if settings.is_production:  # in development, the web process has the same variables
        _report_misspelled(service, settings)
    if build_engine(settings).in_process:
        print("The job queue is off: jobs run in the web process. There is no worker to start.")
        return 0
    if run_own := find_runner(settings):
        return run_own(settings)
    start_tracing(settings, "worker")
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(_work(service, settings))


def _report_misspelled(service: Service, settings: Settings) -> None:
    known = list_variables(type(settings))
    if service.settings:
        known |= list_variables(type(service.settings))
    for line in find_misspelled(read_variables(), known):
        logger.warning(line)


async def _work(service: Service, settings: Settings) -> int:
    stop = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    if supervised:
        follow_supervisor(service.worker.report, service.worker.retire, settings.task_grace_period)
    async with open_service(service, settings) as database:
        if settings.worker_port is not None and not supervised:
            serve_health(service.worker, settings.host, settings.worker_port)
        logger.info("worker started", tasks=sorted(service.worker.tasks))
        tell_started("takes jobs")
        gc.collect()
        gc.freeze()  # the garbage collector need not look at the service's own objects again
        await _wait_for_first(database.ready, stop)
        status = await _run_jobs(service, stop)
    stop_tracing()
    logger.info("worker stopped")
    leave_abandoned(status)
    return status


async def _run_jobs(service: Service, stop: asyncio.Event) -> int:
    """Run jobs until an event is set, and return the exit status of the process."""
    try:
        await service.worker.run(stop)
    except Exception:
        logger.critical("worker ends after an error", exc_info=True)
        return os.EX_SOFTWARE
    return 0


async def _wait_for_first(*events: asyncio.Event) -> None:
    waiting = [asyncio.create_task(event.wait()) for event in events]
    await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
    for task in waiting:
        task.cancel()

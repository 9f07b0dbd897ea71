"""The service in a worker process that the broker's own command has started."""

import asyncio
import gc
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

from core.config import Settings, SettingsError, get_settings
from core.health_server import serve_health
from core.local_servers import use_running_servers
from core.logging import configure_logging, get_logger, is_configured
from core.supervised import tell_started
from core.tasks.broker.engine import BrokerEngine
from core.tasks.engines import find_name
from core.traces import start_tracing, stop_tracing
from core.worker_link import follow_supervisor
from core.worker_link import number as supervised

# `core.entry` imports the engines, so this module imports it late.
if TYPE_CHECKING:
    from core.entry import Service

logger = get_logger(__name__)


def read_hosted_settings(engine: str) -> Settings:
    """Return the settings of a process that another queue system's command has started.

    If `just dev` runs, they have the URLs of its servers.

    Args:
        engine: The name of the engine that the command needs.

    Raises:
        UserError: A setting is missing or wrong, or the service uses another engine.
    """
    use_running_servers()
    settings = get_settings()
    chosen = find_name(settings)
    if chosen != engine:
        problem = f"TASK_ENGINE is {chosen}, so there is no worker of {engine} to start"
        raise SettingsError(f"settings: {problem}")
    return settings


def load_hosted(settings: Settings) -> "Service":
    """Configure the log of this process, and load the service.

    Args:
        settings: The service's settings.

    Raises:
        UserError: The service cannot be loaded; the message says why.
    """
    from core.entry import load_service

    if not is_configured():
        configure_logging(settings, "worker")
    return load_service(settings)


def take_log(name: str) -> None:
    """Print the lines of a queue system in this service's log only.

    The system's command has given the logger a handler of its own.

    Args:
        name: The name of the logger.
    """
    logging.getLogger(name).handlers.clear()


@asynccontextmanager
async def hosted(is_child: bool = False) -> AsyncIterator[BrokerEngine]:
    """Open the service for a block, and run jobs. At the end, running jobs get their grace period.

    Args:
        is_child: Whether this process is one of several that the broker's worker has forked. They
            cannot share the port of the health checks.

    Yields:
        The engine. Pass the job ids of the broker's tickets to its method `deliver`.
    """
    from core.entry import open_service

    settings = get_settings()
    service = load_hosted(settings)
    worker = service.worker
    start_tracing(settings, "worker")
    stop = asyncio.Event()
    if supervised and not is_child:
        follow_supervisor(worker.report, worker.retire, settings.task_grace_period)
    async with open_service(service, settings):
        if settings.worker_port is not None and not (supervised or is_child):
            serve_health(worker, settings.host, settings.worker_port)
        engine = worker.queue.engine
        assert isinstance(engine, BrokerEngine)
        engine.is_hosted = True
        running = asyncio.create_task(worker.run(stop))
        logger.info("worker started", tasks=sorted(worker.tasks))
        tell_started("takes jobs")
        gc.collect()
        gc.freeze()  # the garbage collector need not look at the service's own objects again
        try:
            yield engine
        finally:
            stop.set()
            await running
    stop_tracing()
    logger.info("worker stopped")

"""The application for Celery's own commands: `celery -A core.tasks.engines.celery worker`.

Celery imports this module, and so does `python -m core worker`. Celery's signals open the service
on an event loop in a thread: once in a worker with the pool `threads`, and in each child of a
worker with the option `-P processes`. Celery takes `-P prefork`, its default, for no option.
"""

import asyncio
import os
import signal
import sys
import threading
import warnings
from contextlib import suppress
from typing import Any

from celery.concurrency.prefork import TaskPool
from celery.exceptions import SecurityWarning
from celery.signals import (
    celeryd_after_setup,
    worker_init,
    worker_process_init,
    worker_process_shutdown,
    worker_shutdown,
    worker_shutting_down,
)
from kombu import Queue

from core.errors import UserError
from core.logging import get_logger
from core.tasks.broker.host import hosted, load_hosted, read_hosted_settings
from core.tasks.engines.celery.address import find_broker
from core.tasks.engines.celery.application import Link, make_app, make_queue

LATE_SECONDS = 10.0
"""The pool `processes` kills a process this long after the longest hard time limit of the tasks. A
process may take this long to close the service, after the grace period of its jobs."""

logger = get_logger(__name__)

try:
    settings = read_hosted_settings("celery")
    address = find_broker(settings)
except UserError as error:
    sys.exit(str(error))

app = make_app(settings, address)
"""The application, which Celery's commands find by its name."""


class _Host:
    """The service of this process, on an event loop in a thread.

    Attributes:
        link: Passes the tickets of this process.
        status: The exit status of the process.
    """

    def __init__(self) -> None:
        self.link = Link()
        self.status = 0
        self._thread: threading.Thread | None = None
        # The reader sees the end of the pipe when the parent stops, and also if it was killed.
        self._reader, self._writer = os.pipe()

    def start(self, is_child: bool) -> None:
        """Open the service.

        Args:
            is_child: Whether this process is a child of the pool `processes`.
        """
        if is_child:
            self.stop()  # only the parent must hold the pipe open
        self._thread = threading.Thread(target=self._serve, args=(is_child,), name="service")
        self._thread.start()

    def stop(self) -> None:
        """Take no more tickets, and give running jobs their grace period."""
        writer, self._writer = self._writer, -1
        with suppress(OSError):
            os.close(writer)

    def join(self) -> None:
        """Wait until the service is closed."""
        if self._thread:
            self._thread.join(settings.task_grace_period + LATE_SECONDS)

    def _serve(self, is_child: bool) -> None:
        try:
            asyncio.run(self._host(is_child))
        except Exception as error:
            is_known = isinstance(error, UserError)
            logger.critical("worker ends after an error", exc_info=not is_known, error=str(error))
            self.status = os.EX_SOFTWARE
            os.kill(os.getpid(), signal.SIGTERM)

    async def _host(self, is_child: bool) -> None:
        stop = asyncio.Event()
        asyncio.get_running_loop().add_reader(self._reader, stop.set)
        async with hosted(is_child) as engine:
            with self.link.attached(engine.deliver):
                await stop.wait()
            # The pipe stays readable, and the event loop must not spin.
            asyncio.get_running_loop().remove_reader(self._reader)


_host = _Host()


def _register_tasks(**_: object) -> None:
    """Register the tasks before Celery forks children."""
    try:
        service = load_hosted(settings)
    except UserError as error:
        sys.exit(str(error))
    tasks = service.worker.tasks.values()
    _host.link.register(app, [task.name for task in tasks])
    # Our executor ends each run in time. If its event loop is blocked, Celery kills the child.
    limits = [task.options.time_limits(settings.task_timeout)[1] for task in tasks]
    app.conf.task_time_limit = max(limits, default=settings.task_timeout) + LATE_SECONDS
    # If Celery knew now that this is a quorum queue, it would create 28 more queues for delays.
    app.amqp.queues.select_add(Queue(settings.queue_name))


def _prepare(instance: Any, **_: object) -> None:
    app.amqp.queues.select_add(make_queue(settings.queue_name, address))
    if not issubclass(instance.pool_cls, TaskPool):
        _host.start(is_child=False)


def _start_child(**_: object) -> None:
    _host.start(is_child=True)


def _stop(**_: object) -> None:
    _host.stop()


def _join_child(**_: object) -> None:
    _host.join()


def _join(sender: Any, **_: object) -> None:
    _host.stop()
    _host.join()
    sender.exitcode = _host.status or sender.exitcode


worker_init.connect(_register_tasks)
celeryd_after_setup.connect(_prepare)
worker_process_init.connect(_start_child)
worker_shutting_down.connect(_stop)
worker_process_shutdown.connect(_join_child)
worker_shutdown.connect(_join)


def run() -> int:
    """Run Celery's worker in this process, and return the exit status."""
    warnings.simplefilter("ignore", SecurityWarning)  # root may run a worker of any engine
    name = f"celery-{os.getpid()}@%h"
    options = ["--hostname", name, "--without-gossip", "--without-mingle"]
    return int(app.start(["--quiet", "worker", *options]) or 0)

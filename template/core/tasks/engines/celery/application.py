"""The Celery application: its settings, and its tasks, which pass tickets to an event loop."""

import asyncio
import logging
import threading
from collections.abc import Iterable, Iterator
from concurrent.futures import CancelledError, Future
from contextlib import contextmanager, suppress
from typing import Any

from celery import Celery
from celery.exceptions import Reject
from celery.signals import setup_logging
from kombu import Queue

from core.config import Settings
from core.tasks.broker.broker import RunJob
from core.tasks.engines.celery.address import Address

TICKET = "core.ticket"
"""The name of the Celery task that takes all tickets."""
OPERATION_SECONDS = 3.0
"""A broker that takes longer counts as down."""
ANSWER_SECONDS = 30.0
"""If an answer of RabbitMQ takes longer, the worker connects again."""
HEARTBEAT_SECONDS = 10
"""RabbitMQ and a worker close a connection that is silent for twice this time."""
OPENING_SECONDS = 60.0
"""How long a ticket waits for the service, which opens when Celery's worker starts."""
PAUSE_SECONDS = 1.0
"""The pause before a ticket that cannot run here goes back to the queue."""


def _keep_logging(**_: object) -> None:
    """Keep the service's log. Celery sets up its own log if nothing receives this signal."""
    # The service logs how each job ends. Celery would log a traceback for each ticket put back.
    logging.getLogger("celery.app.trace").setLevel(logging.ERROR)
    logging.getLogger("celery.worker.strategy").setLevel(logging.WARNING)


setup_logging.connect(_keep_logging)


class Link:
    """Passes tickets from the threads of Celery's worker to the event loop that runs jobs."""

    def __init__(self) -> None:
        self._run: RunJob | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._opened = threading.Event()
        self._closed = threading.Event()

    @contextmanager
    def attached(self, run: RunJob) -> Iterator[None]:
        """Pass tickets to a function for a block. After the block, tickets go back to the queue.

        Args:
            run: Runs the job of a ticket, on the event loop that is running now.
        """
        self._run, self._loop = run, asyncio.get_running_loop()
        self._opened.set()
        try:
            yield
        finally:
            self._run = None
            self._closed.set()

    def take(self, job_id: str) -> None:
        """Run the job of a ticket, and return when its end is recorded.

        Args:
            job_id: The job's id.

        Raises:
            Reject: This process does not run the job now. The ticket goes back to the queue.
        """
        self._opened.wait(OPENING_SECONDS)
        with suppress(CancelledError, RuntimeError):  # the event loop has ended
            if self.submit(job_id).result():
                return
        self._closed.wait(PAUSE_SECONDS)
        raise Reject(requeue=True)

    def submit(self, job_id: str) -> "Future[bool]":
        """Start the job of a ticket. The result says whether this process runs it.

        Args:
            job_id: The job's id.

        Raises:
            RuntimeError: The service did not open, or is closed.
        """
        passing = self._pass(job_id)
        if self._loop is None:
            passing.close()
            raise RuntimeError("the service did not open in time")
        return asyncio.run_coroutine_threadsafe(passing, self._loop)

    async def _pass(self, job_id: str) -> bool:
        return self._run is not None and await self._run(job_id)

    def register(self, app: Celery, tasks: Iterable[str]) -> None:
        """Add the Celery task that takes all tickets.

        Celery drops messages of tasks that a worker does not know, but our executor must see them:
        it waits for a newer worker, and then lets the job fail. So each message names `TICKET`, and
        has our task's name as its shadow, which Flower shows. Our tasks are registered only so that
        `celery inspect registered` lists them.

        Args:
            app: The application.
            tasks: The names of our tasks.
        """

        def run_ticket(ticket: Any) -> None:
            self.take(ticket.request.id)

        for name in (TICKET, *tasks):
            app.task(run_ticket, name=name, bind=True, shared=False)


def make_app(settings: Settings, address: Address) -> Celery:
    """Make the Celery application of this service. It has no tasks yet.

    Args:
        settings: The service's settings.
        address: The broker.
    """
    name = settings.queue_name
    app = Celery(name, broker=address.url, set_as_current=False)
    app.conf.update(
        broker_connection_timeout=OPERATION_SECONDS,
        broker_connection_retry_on_startup=True,
        broker_connection_max_retries=None,
        broker_channel_error_retry=True,
        broker_heartbeat=HEARTBEAT_SECONDS,
        broker_transport_options=_options(name, address),
        broker_use_ssl=address.tls or False,
        task_default_queue=name,
        task_queues=[make_queue(name, address)],
        task_ignore_result=True,
        task_acks_late=True,
        task_reject_on_worker_lost=True,
        worker_pool="threads",
        worker_concurrency=settings.task_concurrency,
        worker_prefetch_multiplier=1,
        worker_enable_prefetch_count_reduction=False,
        worker_redirect_stdouts=False,
        # With these names, services that share a broker do not see each other's workers.
        control_exchange=f"{name}.pidbox",
        event_exchange=f"{name}.events",
    )
    return app


def make_queue(name: str, address: Address) -> Queue:
    """Return the queue of the tickets.

    Args:
        name: Its name.
        address: The broker.
    """
    arguments = {"x-queue-type": "quorum"} if address.is_rabbitmq else None
    return Queue(name, durable=True, queue_arguments=arguments)


def _options(name: str, address: Address) -> dict[str, Any]:
    if address.is_rabbitmq:
        return {"read_timeout": ANSWER_SECONDS, "write_timeout": ANSWER_SECONDS}
    return {
        "socket_timeout": OPERATION_SECONDS,
        "socket_connect_timeout": OPERATION_SECONDS,
        "socket_keepalive": True,
        # Redis then keeps no copy of a ticket whose job runs, and no visibility timeout delivers
        # the ticket of a long job again. If a worker dies, the store sends new tickets. With
        # copies, kombu 5.7 also ends the worker if the server stops while jobs run.
        "ack_emulation": False,
        "priority_steps": [0, 1, 2],
        "global_keyprefix": f"{{{name}}}:",
        **address.options,
    }

"""A consumer of tickets for tests that run jobs in their own process.

Celery's own worker for tests cannot run twice in one process: to stop it sets a variable of
Celery's modules, which stops every worker. Outside tests, `celery worker` takes the tickets.
"""

import asyncio
import threading
import time
from concurrent.futures import Future
from contextlib import suppress
from functools import partial
from queue import Empty, SimpleQueue

from celery import Celery
from kombu import Connection, Message

from core.logging import get_logger
from core.tasks.broker.broker import RunJob
from core.tasks.engines.celery.application import PAUSE_SECONDS, Link

WAIT_SECONDS = 0.02
"""How long to wait for a ticket before tickets whose jobs have ended are acknowledged."""
RETRY_SECONDS = 0.5
"""The pause after a lost connection."""

logger = get_logger(__name__)


class Embedded:
    """Takes tickets in a thread.

    Args:
        app: The Celery application.
        concurrency: The number of jobs that run at once.
    """

    def __init__(self, app: Celery, concurrency: int) -> None:
        self._app = app
        self._concurrency = concurrency
        self._link = Link()
        self._stopped = threading.Event()
        self._ended: SimpleQueue[tuple[Message, bool]] = SimpleQueue()
        self._refused: list[tuple[float, Message]] = []

    async def consume(self, run: RunJob, stop: asyncio.Event) -> None:
        """Take tickets until an event is set; see `core.tasks.broker.broker.Broker`.

        Args:
            run: Runs the job of a ticket.
            stop: The event.
        """
        taking = asyncio.create_task(asyncio.to_thread(self._take_all))
        try:
            with self._link.attached(run):
                await stop.wait()
        finally:
            self._stopped.set()
            await taking

    def _take_all(self) -> None:
        while not self._stopped.is_set():
            connection = self._app.connection_for_read()
            try:
                with connection:
                    connection.connect()
                    self._take_from(connection)
            except (*connection.connection_errors, *connection.channel_errors) as error:
                logger.debug("broker is down, trying again", error=str(error))
                self._stopped.wait(RETRY_SECONDS)

    def _take_from(self, connection: Connection) -> None:
        queues = [*self._app.amqp.queues.values()]
        # A message can only be acknowledged on its own channel, which is new here.
        self._ended, self._refused = SimpleQueue(), []
        ended = self._ended
        consumer = connection.Consumer(queues, on_message=partial(self._start, ended))
        consumer.qos(prefetch_count=self._concurrency)
        with consumer:
            while not self._stopped.is_set():
                self._acknowledge()
                with suppress(TimeoutError):
                    connection.drain_events(timeout=WAIT_SECONDS)

    def _start(self, ended: "SimpleQueue[tuple[Message, bool]]", message: Message) -> None:
        def note_end(run: "Future[bool]") -> None:
            ended.put((message, not run.cancelled() and run.result()))

        self._link.submit(message.headers["id"]).add_done_callback(note_end)

    def _acknowledge(self) -> None:
        with suppress(Empty):
            while True:
                message, is_run = self._ended.get_nowait()
                if is_run:
                    message.ack()
                else:
                    self._refused.append((time.monotonic() + PAUSE_SECONDS, message))
        while self._refused and self._refused[0][0] < time.monotonic():
            self._refused.pop(0)[1].requeue()

"""The broker that Celery uses: RabbitMQ, Redis or Valkey."""

import asyncio
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, TypeVar

from core.config import Settings
from core.tasks.broker.broker import RunJob, Ticket
from core.tasks.engine import Condition
from core.tasks.engines.celery.address import Address
from core.tasks.errors import QueueUnavailable

# Imported late, in the broker's own thread, because most commands need no broker.
if TYPE_CHECKING:
    from core.tasks.engines.celery.channel import TicketChannel

T = TypeVar("T")


class CeleryBroker:
    """See `core.tasks.broker.broker.Broker`.

    Celery has no asynchronous client, so one thread makes all calls, one after another.

    Args:
        settings: The service's settings.
        address: The broker.
    """

    def __init__(self, settings: Settings, address: Address) -> None:
        self._settings = settings
        self._address = address
        self._thread = ThreadPoolExecutor(1, "broker")
        self._channel: TicketChannel | None = None

    async def close(self) -> None:
        await self._in_thread(self._disconnect)
        self._thread.shutdown(wait=False)

    async def send(self, tickets: Sequence[Ticket]) -> None:
        await self._call(lambda channel: channel.send(tickets))

    async def count(self) -> int:
        return await self._call(lambda channel: channel.count())

    async def check(self) -> Condition:
        return await self._call(lambda channel: channel.check())

    async def consume(self, tasks: Sequence[str], run: RunJob, stop: asyncio.Event) -> None:
        """Take tickets in this process, as tests do. `celery worker` does not call this method."""
        from core.tasks.engines.celery.application import make_app
        from core.tasks.engines.celery.embedded import Embedded

        app = make_app(self._settings, self._address)
        await Embedded(app, self._settings.task_concurrency).consume(run, stop)

    async def _call(self, work: "Callable[[TicketChannel], T]") -> T:
        return await self._in_thread(lambda: self._use(work))

    async def _in_thread(self, work: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._thread, work)

    def _use(self, work: "Callable[[TicketChannel], T]") -> T:
        """Call a function with the open channel. After an error, the next call connects again."""
        from core.tasks.engines.celery import channel

        try:
            if self._channel is None:
                self._channel = channel.TicketChannel(self._settings, self._address)
            return work(self._channel)
        except QueueUnavailable:
            self._disconnect()
            raise

    def _disconnect(self) -> None:
        channel, self._channel = self._channel, None
        if channel:
            channel.close()

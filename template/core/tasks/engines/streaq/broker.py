"""The broker `streaq`: it sends tickets, and runs streaq's worker in this process."""

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from functools import partial
from typing import Any, TypeVar

from coredis.exceptions import (
    ReadOnlyError,
    RedisError,
    ResponseError,
    StreamConsumerGroupError,
)
from streaq.constants import REDIS_GROUP

from core.config import find_address
from core.logging import get_logger
from core.tasks.broker.broker import RunJob, Ticket
from core.tasks.broker.ticket_server import CHECK_SECONDS, OPERATION_SECONDS, explain
from core.tasks.engine import Condition
from core.tasks.engines.streaq.shift import Shift, keep_signal_handlers
from core.tasks.engines.streaq.working import StreaqWorker, Take, make_worker
from core.tasks.errors import QueueUnavailable
from core.tasks.queue_server import read_condition

T = TypeVar("T")

logger = get_logger(__name__)

SEND_BATCH = 500
PAUSE_SECONDS = 1.0
"""The pause before streaq's worker starts again after an error."""


CODES: dict[type[Exception], str] = {ReadOnlyError: "READONLY"}
"""The codes that coredis removes from the texts of errors."""

# coredis logs a traceback for each failed connection. The engine logs one line for an outage.
logging.getLogger("coredis").setLevel(logging.CRITICAL + 1)


class StreaqBroker:
    """See `core.tasks.broker.broker.Broker`.

    Args:
        url: The URL of the Redis or Valkey server.
        queue_name: The name that separates services on one server.
        concurrency: The number of jobs that one worker runs at once.
    """

    def __init__(self, url: str, queue_name: str, concurrency: int) -> None:
        self._place = f"the queue's server at {find_address(url)} (REDIS_URL)"
        self._url = url
        self._queue_name = queue_name
        self._concurrency = concurrency
        self._keeper: asyncio.Task[None] | None = None
        self._opened: asyncio.Future[StreaqWorker]
        self._ends: asyncio.Event
        self._jobs: set[asyncio.Future[bool]] = set()
        self._shift: Shift | None = None

    async def close(self) -> None:
        if self._shift:
            with suppress(Exception):  # an outage, which is logged elsewhere
                await self._shift.leave()
        if keeper := self._keeper:
            self._drop()
            await asyncio.wait({keeper}, timeout=OPERATION_SECONDS)
            keeper.cancel()

    async def send(self, tickets: Sequence[Ticket]) -> None:
        for start in range(0, len(tickets), SEND_BATCH):
            batch = tickets[start : start + SEND_BATCH]
            await self._call(partial(_send, tickets=batch))

    async def count(self) -> int:
        return await self._call(_count)

    async def check(self) -> Condition:
        return await self._call(_check)

    async def consume(self, tasks: Sequence[str], run: RunJob, stop: asyncio.Event) -> None:
        def make(take: Take) -> StreaqWorker:
            limit = self._concurrency
            return make_worker(self._url, self._queue_name, tasks, take, concurrency=limit)

        is_logged = False
        with keep_signal_handlers():
            while not stop.is_set():
                shift = self._shift = Shift(make, run, self._jobs)
                try:
                    await shift.work(stop)
                except Exception as error:
                    if shift.has_started or not is_logged:
                        problem = str(self._explain(error))
                        logger.warning("streaq's worker ended, starting another", error=problem)
                    is_logged = True
                    with suppress(TimeoutError):
                        await asyncio.wait_for(stop.wait(), PAUSE_SECONDS)

    async def _call(self, use: Callable[[StreaqWorker], Awaitable[T]]) -> T:
        """Call a function with streaq's worker object, which is also its client."""
        try:
            async with asyncio.timeout(OPERATION_SECONDS):
                try:
                    return await use(await self._connect())
                except ResponseError as error:
                    if "Function not found" not in str(error):
                        raise
                    # The server has restarted without its data. A new connection loads functions.
                    self._drop()
                    return await use(await self._connect())
        except (RedisError, OSError, ExceptionGroup, RuntimeError) as error:
            if not isinstance(error, ResponseError):
                self._drop()
            raise self._explain(error) from error

    async def _connect(self) -> StreaqWorker:
        if self._keeper is None or self._keeper.done():
            self._opened = asyncio.get_running_loop().create_future()
            self._ends = asyncio.Event()
            self._keeper = asyncio.create_task(self._keep(self._opened, self._ends))
        return await asyncio.shield(self._opened)

    async def _keep(self, opened: "asyncio.Future[StreaqWorker]", ends: asyncio.Event) -> None:
        """Hold the connection open. One task must both open and close it."""
        try:
            async with make_worker(self._url, self._queue_name) as worker:
                opened.set_result(worker)
                await ends.wait()
        except Exception as error:
            if not opened.done():
                opened.set_exception(error)
                opened.exception()  # a caller that has given up does not read it

    def _drop(self) -> None:
        if self._keeper:
            self._ends.set()
            self._keeper = None

    def _explain(self, error: BaseException) -> QueueUnavailable:
        return explain(self._place, error, CODES)


async def _send(worker: StreaqWorker, tickets: Sequence[Ticket]) -> None:
    tasks = []
    for ticket in tickets:
        task = worker.enqueue_unsafe(ticket.task, ticket.job_id).start(priority=ticket.priority)
        task.id = f"{ticket.job_id}:{ticket.number}"
        tasks.append(task)
    await worker.enqueue_many(tasks)


async def _count(worker: StreaqWorker) -> int:
    """Return the number of tickets that no worker has taken. streaq counts the others too."""
    taken = 0
    for priority in worker.priorities:
        with suppress(StreamConsumerGroupError):  # no worker has ever started
            found: Any = await worker.redis.xpending(worker.stream_key + priority, REDIS_GROUP)
            taken += found.pending
    return max(0, await worker.queue_size() - taken)


async def _check(worker: StreaqWorker) -> Condition:
    await worker.redis.set(f"{worker.prefix}:check", "1", ex=CHECK_SECONDS)
    info: dict[str, Any] = {}
    with suppress(ResponseError):  # a managed server may forbid it
        info = await worker.redis.info("memory", "server")
    return read_condition(info, time.time())

"""The broker `arq`: it sends tickets, and runs arq's worker in this process."""

import asyncio
import logging
import time
from collections.abc import Awaitable, Sequence
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from typing import Any, TypeVar

from arq import Worker
from arq.constants import in_progress_key_prefix
from redis.exceptions import OutOfMemoryError, ReadOnlyError, RedisError, ResponseError

from core.config import find_address
from core.logging import get_logger
from core.tasks.broker.broker import RunJob, Ticket
from core.tasks.broker.ticket_server import CHECK_SECONDS, OPERATION_SECONDS, explain
from core.tasks.engine import Condition
from core.tasks.engines.arq.working import READ_LIMIT, Taker, make_settings, open_client
from core.tasks.errors import QueueUnavailable
from core.tasks.queue_server import read_condition

T = TypeVar("T")

logger = get_logger(__name__)

SEND_BATCH = 100
EXPIRES = timedelta(days=30)
PAUSE_SECONDS = 1.0
"""The pause before arq's worker starts again after an error."""
AHEAD = {"high": 3 * 3600_000, "normal": 2 * 3600_000, "low": 3600_000}
"""Milliseconds by which a ticket is dated back. arq takes the ticket of the earliest time first."""

CODES: dict[type[Exception], str] = {OutOfMemoryError: "OOM", ReadOnlyError: "READONLY"}
"""The codes that redis-py removes from the texts of errors."""

# arq logs the start and the end of each job, as the service already does.
logging.getLogger("arq").setLevel(logging.WARNING)


class ArqBroker:
    """See `core.tasks.broker.broker.Broker`.

    Args:
        url: The URL of the Redis or Valkey server.
        queue_name: The name that separates services on one server.
        concurrency: The number of jobs that one worker runs at once.
    """

    def __init__(self, url: str, queue_name: str, concurrency: int) -> None:
        self._place = f"the queue's server at {find_address(url)} (REDIS_URL)"
        self._concurrency = concurrency
        self._client = open_client(url, queue_name)
        self._queue = self._client.default_queue_name
        self._last = 0
        self._slots = asyncio.Semaphore(concurrency)
        self._worker: Worker | None = None
        self._working: asyncio.Task[None] | None = None

    async def close(self) -> None:
        if self._worker and self._working:
            if tasks := [*self._worker.tasks.values()]:
                await asyncio.wait(tasks, timeout=OPERATION_SECONDS)
            self._working.cancel()
            await asyncio.wait({self._working})
        await self._client.aclose(close_connection_pool=True)

    async def send(self, tickets: Sequence[Ticket]) -> None:
        for start in range(0, len(tickets), SEND_BATCH):
            await self._call(self._send(tickets[start : start + SEND_BATCH]))

    async def _send(self, tickets: Sequence[Ticket]) -> None:
        # arq has no call for many tickets. For each one it asks the server whether the id is known.
        async with asyncio.TaskGroup() as group:
            for ticket in tickets:
                self._last = max(self._last + 1, int(time.time() * 1000))
                at = (self._last - AHEAD[ticket.priority] + 0.5) / 1000
                sending = self._client.enqueue_job(
                    ticket.task,
                    ticket.job_id,
                    _job_id=f"{self._queue}:{ticket.job_id}:{ticket.number}",
                    _defer_until=datetime.fromtimestamp(at, UTC),
                    _expires=EXPIRES,
                )
                group.create_task(sending)

    async def count(self) -> int:
        return await self._call(self._count())

    async def _count(self) -> int:
        """Return the number of tickets that no worker has taken. arq's queue has the others too."""
        count: int = await self._client.zcard(self._queue)
        first: list[Any] = await self._client.zrange(self._queue, 0, READ_LIMIT - 1)
        if first:
            keys = [in_progress_key_prefix + job_id.decode() for job_id in first]
            count -= await self._client.exists(*keys)
        return max(0, count)

    async def check(self) -> Condition:
        return await self._call(self._check())

    async def _check(self) -> Condition:
        await self._client.set(f"{self._queue}:check", "1", ex=CHECK_SECONDS)
        info: dict[str, Any] = {}
        with suppress(ResponseError):  # a managed server may forbid it
            info = await self._client.info()
        return read_condition(info, time.time())

    async def consume(self, tasks: Sequence[str], run: RunJob, stop: asyncio.Event) -> None:
        taker = Taker(run, self._slots, stop)
        settings = make_settings(self._client, tasks, taker.take, self._concurrency)
        stopping = asyncio.create_task(stop.wait())
        is_logged = False
        while not stop.is_set():
            worker = self._worker = Worker(**settings, handle_signals=False)
            working = self._working = asyncio.create_task(worker.async_run())
            await asyncio.wait({working, stopping}, return_when=asyncio.FIRST_COMPLETED)
            worker.allow_pick_jobs = False  # it ends after its running jobs
            if working.done() and not stop.is_set():
                error = working.exception() or RuntimeError("arq's worker ended")
                for task in worker.tasks.values():
                    task.add_done_callback(_ignore_error)  # its end cannot be recorded
                if not is_logged:
                    problem = str(self._explain(error))
                    logger.warning("arq's worker ended, starting another", error=problem)
                is_logged = True
                await asyncio.wait({stopping}, timeout=PAUSE_SECONDS)
        stopping.cancel()

    async def _call(self, calling: Awaitable[T]) -> T:
        try:
            async with asyncio.timeout(OPERATION_SECONDS):
                return await calling
        except (RedisError, OSError, ExceptionGroup) as error:
            raise self._explain(error) from error

    def _explain(self, error: BaseException) -> QueueUnavailable:
        return explain(self._place, error, CODES)


def _ignore_error(task: "asyncio.Task[Any]") -> None:
    if not task.cancelled():
        task.exception()

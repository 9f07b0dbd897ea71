"""arq's worker: in this process, or in a process that the command `arq` has started."""

import asyncio
from collections.abc import Callable, Coroutine, Iterable
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING, Any, TypeAlias, cast

from arq import ArqRedis, Retry, func
from pydantic_core import from_json, to_json
from redis.asyncio import BlockingConnectionPool
from redis.asyncio.retry import Retry as Again
from redis.backoff import ConstantBackoff
from redis.exceptions import ConnectionError as LostConnection

from core.config import Settings
from core.tasks.broker.broker import RunJob
from core.tasks.broker.host import hosted, load_hosted, take_log
from core.tasks.broker.ticket_server import check_host_name

if TYPE_CHECKING:
    from arq.typing import WorkerCoroutine

Take: TypeAlias = Callable[[dict[Any, Any], str], Coroutine[Any, Any, None]]
"""A function that takes arq's context and the id of a ticket's job."""

MAX_CONNECTIONS = 30
"""The largest number of connections of one client. Further calls wait for one of them."""
READ_SECONDS = 10
POLL_SECONDS = 0.05
"""The pause between two searches for tickets by arq's worker."""
READ_LIMIT = 1000
"""The number of tickets that a search reads. The tickets of all running jobs come first."""
AGAIN_SECONDS = 1
LET_GO_SECONDS = 60
"""After this time, a job continues without arq. With a longer timeout, arq would hold the ticket of
a killed worker for as long, and each search would read the tickets of all long jobs."""
TIMEOUT_SECONDS = 90
SLOT_SECONDS = 5
"""How long a ticket waits for a slot if jobs that continue without arq hold all slots."""
MAX_TRIES = 10**9
UNKNOWN = "a task that this worker does not know"


def open_client(url: str, queue_name: str) -> ArqRedis:
    """Return a client of arq, which connects when it is used.

    Args:
        url: The URL of the Redis or Valkey server.
        queue_name: The name that separates services on one server.
    """
    pool = BlockingConnectionPool.from_url(
        check_host_name(url),
        max_connections=MAX_CONNECTIONS,
        timeout=None,
        socket_timeout=READ_SECONDS,
        retry=Again(ConstantBackoff(0.05), 1),  # a restart closes all idle connections
        retry_on_error=[LostConnection],
    )
    return ArqRedis(pool, job_serializer=to_json, default_queue_name=f"arq:{queue_name}")


def make_settings(client: ArqRedis, tasks: Iterable[str], take: Take, limit: int) -> dict[str, Any]:
    """Return the arguments of arq's class `Worker`.

    Args:
        client: The client of arq.
        tasks: The names of the tasks that this process knows.
        take: The function of all tasks.
        limit: The number of jobs that the worker runs at once.
    """
    names = {*tasks, UNKNOWN}
    return {
        "functions": [func(cast("WorkerCoroutine", take), name=name) for name in names],
        "queue_name": client.default_queue_name,
        "redis_pool": client,
        "max_jobs": limit,
        "job_timeout": TIMEOUT_SECONDS,
        "max_tries": MAX_TRIES,
        "keep_result": 0,
        "log_results": False,
        "poll_delay": POLL_SECONDS,
        "queue_read_limit": READ_LIMIT,
        "job_serializer": lambda data: to_json(data, fallback=str),  # a result may be an exception
        "job_deserializer": lambda data: _load(data, names),
    }


def _load(data: bytes, names: set[str]) -> dict[str, Any]:
    """Return the checked fields of a ticket. A forged message would otherwise end arq's worker.

    Args:
        data: The ticket.
        names: The names of the tasks. arq would drop a ticket with another name.
    """
    loaded = from_json(data)
    name, words, time = str(loaded["f"]), tuple(loaded["a"]), int(loaded["et"])
    return {"f": name if name in names else UNKNOWN, "a": words, "k": {}, "t": None, "et": time}


class Taker:
    """Runs the jobs of tickets that arq's worker delivers.

    Args:
        run: Runs the job of a ticket.
        slots: Limits the running jobs of this process. arq does not count the jobs that continue
            without it.
        stop: No job begins after it is set.
    """

    def __init__(self, run: RunJob, slots: asyncio.Semaphore, stop: asyncio.Event) -> None:
        self._run = run
        self._slots = slots
        self._stop = stop

    async def take(self, context: dict[Any, Any], job_id: str) -> None:
        """Run a job. Return at its end, or after `LET_GO_SECONDS`. A cancellation does not end it.

        Args:
            context: arq's context.
            job_id: The job's id.

        Raises:
            Retry: This process takes no jobs now.
        """
        if self._stop.is_set():
            raise Retry(AGAIN_SECONDS)
        try:
            await asyncio.wait_for(self._slots.acquire(), SLOT_SECONDS)
        except TimeoutError:
            raise Retry(AGAIN_SECONDS) from None
        job = asyncio.ensure_future(self._run(job_id))
        job.add_done_callback(lambda _: self._slots.release())
        await asyncio.wait({job}, timeout=LET_GO_SECONDS)
        if job.done() and not job.cancelled() and not job.result():
            raise Retry(AGAIN_SECONDS)


def make_hosted_settings(url: str, settings: Settings) -> dict[str, Any]:
    """Return the settings of a worker of arq that opens this service, for the command `arq`.

    Args:
        url: The URL of the Redis or Valkey server.
        settings: The service's settings.
    """
    stack = AsyncExitStack()
    takers: list[Taker] = []

    async def open_service(context: dict[Any, Any]) -> None:
        take_log("arq")
        engine = await stack.enter_async_context(hosted())
        slots = asyncio.Semaphore(settings.task_concurrency)
        takers.append(Taker(engine.deliver, slots, asyncio.Event()))

    async def close_service(context: dict[Any, Any]) -> None:
        await stack.aclose()

    async def take(context: dict[Any, Any], job_id: str) -> None:
        await takers[0].take(context, job_id)

    client = open_client(url, settings.queue_name)
    tasks = load_hosted(settings).worker.tasks
    return {
        **make_settings(client, tasks, take, settings.task_concurrency),
        "on_startup": open_service,
        "on_shutdown": close_service,
        "job_completion_wait": 1,  # jobs get their grace period when the service closes
    }

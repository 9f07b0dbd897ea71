"""streaq's worker: in this process, or in a process that `streaq run` has started."""

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine, Iterable
from contextlib import asynccontextmanager
from typing import Any, TypeAlias

from pydantic_core import from_json, to_json
from streaq import StreaqRetry, Worker

from core.config import Settings
from core.tasks.broker.broker import RunJob
from core.tasks.broker.host import hosted, load_hosted, take_log
from core.tasks.broker.ticket_server import check_host_name
from core.tasks.engine import PRIORITIES

StreaqWorker: TypeAlias = "Worker[None]"
Take: TypeAlias = Callable[[str], Coroutine[None, None, None]]
"""A function that takes the id of a ticket's job."""

IDLE_SECONDS = 10
"""If a worker is silent for this long, its tickets go to another worker."""
ANSWER_SECONDS = 3
"""How late an answer of the server may be."""
AGAIN_SECONDS = 1
"""The pause before a ticket that this process did not take is delivered again."""
UNKNOWN = "a task that this worker does not know"


def make_worker(
    url: str,
    queue_name: str,
    tasks: Iterable[str] = (),
    take: Take | None = None,
    **options: Any,
) -> StreaqWorker:
    """Return a worker of streaq, which is also its client. It connects when it is entered.

    Args:
        url: The URL of the Redis or Valkey server.
        queue_name: The name that separates services on one server.
        tasks: The names of the tasks that this process knows.
        take: The function of all tasks.
        **options: Further options of the class.
    """
    names = {*tasks, UNKNOWN}
    worker: StreaqWorker = Worker(
        redis_url=check_host_name(url),
        redis_kwargs={"decode_components": True, "stream_timeout": IDLE_SECONDS + ANSWER_SECONDS},
        queue_name=queue_name,
        priorities=list(PRIORITIES),
        prefetch=1,
        serializer=_dump,
        deserializer=lambda data: _load(data, names),
        idle_timeout=IDLE_SECONDS,
        **options,
    )
    if take:
        for name in names:  # results, retries and time limits are ours, not streaq's
            worker.task(name=name, ttl=0, max_tries=None, timeout=None, silent=True)(take)
    return worker


def _dump(data: Any) -> bytes:
    return to_json(data, fallback=str)  # streaq serializes exceptions too


def _load(data: bytes, names: set[str]) -> dict[str, Any]:
    """Return the checked fields of a ticket. A forged message would otherwise end streaq's worker.

    Args:
        data: The ticket.
        names: The names of the tasks. streaq would drop a ticket with another name.
    """
    loaded = from_json(data)
    name, words, time = str(loaded["f"]), list(loaded["a"]), int(loaded["t"])
    return {"f": name if name in names else UNKNOWN, "a": words, "k": {}, "t": time}


def check_taken(job: "asyncio.Future[bool]") -> None:
    """Return if the job of a ticket has ended.

    Args:
        job: The run of the job.

    Raises:
        StreaqRetry: This process takes no jobs now.
    """
    if not job.cancelled() and not job.result():
        raise StreaqRetry(delay=AGAIN_SECONDS)


def make_hosted_worker(url: str, settings: Settings) -> StreaqWorker:
    """Return a worker of streaq that opens this service, for the command `streaq run`.

    Args:
        url: The URL of the Redis or Valkey server.
        settings: The service's settings.
    """
    opened: list[RunJob] = []

    @asynccontextmanager
    async def open_service() -> AsyncIterator[None]:
        take_log("streaq")
        async with hosted() as engine:
            opened.append(engine.deliver)
            yield

    async def take(job_id: str) -> None:
        job = asyncio.ensure_future(opened[0](job_id))
        await asyncio.wait({job})  # at SIGTERM, streaq cancels this call, but the job continues
        check_taken(job)

    return make_worker(
        url,
        settings.queue_name,
        load_hosted(settings).worker.tasks,
        take,
        concurrency=settings.task_concurrency,
        lifespan=open_service,
    )

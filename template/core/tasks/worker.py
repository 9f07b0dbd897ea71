"""The registry of tasks, and what a process does with it: enqueue jobs, or run them."""

import asyncio
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import httpx2

from core.config import Settings
from core.context import TaskContext
from core.services.targets import open_public_client, ssl_context
from core.tasks.dead_letters import DeadLetters
from core.tasks.engines import build_engine
from core.tasks.execute import Executor, Policy
from core.tasks.history import History
from core.tasks.job import Job
from core.tasks.message import Signer
from core.tasks.queue import Queue
from core.tasks.registry import Registry
from core.tasks.schedules import Schedules
from core.tasks.sensitive import Cipher
from core.tasks.upkeep import OUTAGE, keep_doing
from core.tasks.watchdog import Watchdog

JOB_THREADS = "job"
"""How the names of the threads begin in which plain functions run."""

ABORT_SECONDS = 0.5
MOVE_SECONDS = 5.0
TICK_SECONDS = 0.5
RELAY_SECONDS = 1.0
WRITE_SECONDS = 1.0
CHECK_SECONDS = 5.0


class WorkerContext(SimpleNamespace):
    """What the worker opened for its tasks.

    Attributes:
        http_client: For addresses that you chose.
        public_client: For addresses that users name; outside of development it reaches the public internet only.
    """

    http_client: httpx2.AsyncClient
    public_client: httpx2.AsyncClient


Lifespan = Callable[[WorkerContext], AbstractAsyncContextManager[None]]


@dataclass
class _Opened:
    """What there is while a service runs."""

    queue: Queue
    context: WorkerContext
    executor: Executor
    watchdog: Watchdog
    dead_letters: DeadLetters
    schedules: Schedules
    history: History


class Worker(Registry):
    """A registry of tasks. `app/tasks/worker.py` imports the modules that register theirs here.

    Its properties raise RuntimeError where no service runs in this process.
    """

    def __init__(self) -> None:
        super().__init__()
        self._lifespans: list[Lifespan] = []
        self._open: _Opened | None = None

    @property
    def _opened(self) -> _Opened:
        if self._open is None:
            raise RuntimeError("no queue is open: do this inside a running service (tests: use the fixture `db`)")
        return self._open

    @property
    def queue(self) -> Queue:
        """The open queue."""
        return self._opened.queue

    @property
    def context(self) -> WorkerContext:
        """What tasks share: `worker.context.http_client`, and what the lifespans opened."""
        return self._opened.context

    @property
    def dead_letters(self) -> DeadLetters:
        """The jobs that are not run any more: list, replay and discard them."""
        return self._opened.dead_letters

    @property
    def schedules(self) -> Schedules:
        """The schedules: list, enable, disable and run now."""
        return self._opened.schedules

    @property
    def history(self) -> History:
        """Failures, and runs of schedules, of the last time."""
        return self._opened.history

    @property
    def problem(self) -> str | None:
        """What keeps this process from running jobs, in one line; None where it does, or need not."""
        return self._open.watchdog.problem if self._open else None

    def lifespan(self, open_resources: Lifespan) -> Lifespan:
        """Register an async context manager that takes the context and sets what tasks shall find there."""
        self._lifespans.append(open_resources)
        return open_resources

    def job(self, job_id: str) -> Job[Any]:
        """A handle from an id alone; the result is plain JSON data."""
        return Job(job_id, self.queue, lambda value: value)

    @asynccontextmanager
    async def open(self, settings: Settings) -> AsyncIterator[None]:
        """Make `enqueue` and `context` usable for the length of a block.

        An engine that lives in this process runs its jobs here too.
        """
        for task in self.tasks.values():
            task.arguments  # noqa: B018  # an annotation that cannot travel is reported at the start
        keys, engine = settings.secret_keys, build_engine(settings)
        queue = Queue(engine, Signer(*keys), Cipher(*keys), settings.task_record_ttl)
        async with AsyncExitStack() as stack:
            client = httpx2.AsyncClient(verify=ssl_context(), event_hooks={"request": [_send_correlation_id]})
            context = WorkerContext(
                http_client=await stack.enter_async_context(client),
                public_client=await stack.enter_async_context(open_public_client()),
            )
            for open_resources in self._lifespans:
                await stack.enter_async_context(open_resources(context))
            await engine.start()
            stack.push_async_callback(engine.stop)
            stack.push_async_callback(queue.close)
            # As many as jobs can run at once, so that none waits for a thread while its timeout runs.
            self.threads = threads = ThreadPoolExecutor(settings.task_concurrency, thread_name_prefix=JOB_THREADS)
            history = History(settings.task_history_ttl)
            executor = Executor(queue, self.tasks, Policy.of(settings), history)
            # In the web process jobs are not all that there is, and in development a debugger stops the loop.
            ends = settings.is_production and not engine.in_process
            limit = settings.task_stuck_limit if ends else None
            self._open = _Opened(
                queue=queue,
                context=context,
                executor=executor,
                watchdog=Watchdog(engine, executor, settings.task_concurrency, limit),
                dead_letters=DeadLetters(queue),
                schedules=Schedules(queue, self.make_schedules(settings.schedule_timezone)),
                history=history,
            )
            try:
                if engine.in_process:
                    await stack.enter_async_context(self._consuming())
                yield
            finally:
                await stack.aclose()
                threads.shutdown(wait=False, cancel_futures=True)
                self._open = self.threads = None

    async def run(self, stop: asyncio.Event) -> None:
        """Run jobs until `stop` is set; inside `open`."""
        opened = self._opened
        executor, queue, watchdog = opened.executor, opened.queue, opened.watchdog
        helpers = [
            asyncio.create_task(keep_doing(*what))
            for what in (
                ("aborts", executor.cancel_aborted, ABORT_SECONDS),
                ("dead letters", opened.dead_letters.move, MOVE_SECONDS, executor.buried),
                ("schedules", opened.schedules.tick, TICK_SECONDS),
                ("jobs in the outbox", queue.relay, RELAY_SECONDS),
                ("runs of history", opened.history.write, WRITE_SECONDS),
                ("checks", watchdog.check_taking, CHECK_SECONDS),
            )
        ]
        helpers.append(asyncio.create_task(watchdog.keep_watching(stop)))
        try:
            await queue.engine.consume(executor.execute, stop)
        finally:
            for helper in helpers:
                helper.cancel()
            await asyncio.wait(helpers)
            with suppress(*OUTAGE):  # they wait in the queue then
                await opened.dead_letters.move()
                await opened.history.write()

    @asynccontextmanager
    async def _consuming(self) -> AsyncIterator[None]:
        stop = asyncio.Event()
        consumer = asyncio.create_task(self.run(stop))
        try:
            yield
        finally:
            stop.set()
            await consumer


async def _send_correlation_id(request: httpx2.Request) -> None:
    if correlation_id := TaskContext.get_correlation_id():
        request.headers.setdefault("X-Request-ID", correlation_id)


worker = Worker()
"""The registry of this service."""

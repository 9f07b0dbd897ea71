"""The worker: the registry of tasks, and the code that opens and runs it."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import (
    AbstractAsyncContextManager,
    AsyncExitStack,
    asynccontextmanager,
    suppress,
)
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import httpx2
from anyio import CapacityLimiter

from core.cancelling import cancel_all
from core.config import Settings
from core.context import TaskContext
from core.logging import get_logger
from core.services.targets import open_public_client, ssl_context
from core.tasks import metrics, upkeep
from core.tasks.dead_letters import DeadLetters
from core.tasks.engine import Engine
from core.tasks.engines import build_engine
from core.tasks.errors import ScheduleError
from core.tasks.executor import Executor
from core.tasks.history import History
from core.tasks.job import Job
from core.tasks.message import Signer
from core.tasks.monitor import Monitor
from core.tasks.portal import Portal
from core.tasks.queue import Queue
from core.tasks.schedules.declarations import DeclaredSchedules, build_schedules
from core.tasks.schedules.registry import ScheduleRegistry
from core.tasks.schedules.schedules import Schedules
from core.tasks.sensitive import Cipher
from core.tasks.watchdog import Watchdog
from core.worker_link import Report

__all__ = ["Worker", "WorkerContext", "worker"]

logger = get_logger(__name__)


class WorkerContext(SimpleNamespace):
    """The resources that a worker opens for its tasks.

    Attributes:
        http_client: An HTTP client for addresses that you choose.
        public_client: An HTTP client for addresses that users name. Outside development it reaches
            the public internet only.
    """

    http_client: httpx2.AsyncClient
    public_client: httpx2.AsyncClient


Lifespan = Callable[[WorkerContext], AbstractAsyncContextManager[None]]


@dataclass
class _Opened:
    """The parts of a worker that exist while the service runs."""

    queue: Queue
    portal: Portal
    context: WorkerContext
    executor: Executor
    watchdog: Watchdog
    monitor: Monitor
    dead_letters: DeadLetters
    schedules: Schedules
    history: History


class Worker(ScheduleRegistry):
    """A registry of tasks. Task modules register their tasks when they are imported.

    Its properties raise RuntimeError if no service is running in this process.
    """

    def __init__(self) -> None:
        super().__init__()
        self._lifespans: list[Lifespan] = []
        self._open: _Opened | None = None

    @property
    def _opened(self) -> _Opened:
        if self._open is None:
            tests = "in a test, use the fixture `db`"
            scripts = "in a script, use `open_service_sync` of core.entry"
            raise RuntimeError(f"no service is open here: {tests}; {scripts}")
        return self._open

    @property
    def is_open(self) -> bool:
        """Whether the service is running in this process."""
        return self._open is not None

    @property
    def queue(self) -> Queue:
        """The open queue."""
        return self._opened.queue

    @property
    def portal(self) -> Portal:
        """The way from plain functions to the event loop of the service."""
        return self._opened.portal

    @property
    def context(self) -> WorkerContext:
        """The resources that tasks share: `worker.context.http_client`, and what lifespans add."""
        return self._opened.context

    @property
    def dead_letters(self) -> DeadLetters:
        """The dead letters: list, replay and discard them."""
        return self._opened.dead_letters

    @property
    def schedules(self) -> Schedules:
        """The schedules: list, enable, disable and run them."""
        return self._opened.schedules

    @property
    def history(self) -> History:
        """The history: failed attempts and runs of schedules."""
        return self._opened.history

    @property
    def monitor(self) -> Monitor:
        """The monitor of the queue's server."""
        return self._opened.monitor

    @property
    def problem(self) -> str | None:
        """Why this process's worker is stuck, in one line; None if no worker is stuck or runs."""
        return self._open.watchdog.problem if self._open else None

    @property
    def takes_jobs(self) -> bool:
        """Whether this process runs jobs now. During an outage it runs no jobs."""
        return self._open is not None and self._open.queue.engine.takes_jobs

    def report(self) -> Report:
        """Return the state of this worker, and set the gauge `jobs_running`; for any thread."""
        opened = self._open
        if opened is None:
            return Report()
        executor = opened.executor
        metrics.RUNNING.set(executor.running)  # several processes ignore its function
        return Report(self.problem, self.takes_jobs, executor.begun, executor.running)

    def retire(self) -> None:
        """Take no further job; the running ones go on. Any thread may call this."""
        if self._open:
            self._open.queue.engine.paused.set()

    def lifespan(self, open_resources: Lifespan) -> Lifespan:
        """Register an async context manager that opens resources for tasks.

        Args:
            open_resources: Takes the context, and sets attributes that tasks find there.
        """
        self._lifespans.append(open_resources)
        return open_resources

    def job(self, job_id: str) -> Job[Any]:
        """Return a handle on a job. Its result is plain JSON data.

        Args:
            job_id: The job's id.
        """
        return Job(job_id, self.queue, lambda value: value)

    def check(self, settings: Settings) -> DeclaredSchedules:
        """Return the schedules, if the tasks and the schedules can be used.

        Args:
            settings: The service's settings.

        Raises:
            InvalidTask: A task has an annotation that cannot be used for a job.
            ScheduleError: A schedule is broken, and this is not production.
        """
        for task in self.tasks.values():
            task.arguments  # noqa: B018  # raises InvalidTask for a wrong annotation
        declared = build_schedules(self._declared, settings.schedule_timezone)
        if declared.broken and not settings.is_production:
            problems = "; ".join(map(str, declared.broken))
            raise ScheduleError(f"broken schedules: {problems}")
        return declared

    @asynccontextmanager
    async def open(self, settings: Settings) -> AsyncIterator[None]:
        """Open the queue and the context for a block. The engine `local` also runs jobs in it.

        Args:
            settings: The service's settings.

        Raises:
            InvalidTask: A task has an annotation that cannot be used for a job.
            ScheduleError: A schedule is broken, and this is not production.
        """
        declared = self.check(settings)
        for broken in declared.broken:
            logger.error(
                "schedule is broken",
                schedule=broken.id,
                task=broken.task,
                problem=broken.problem,
            )
        engine = build_engine(settings)
        async with AsyncExitStack() as stack:
            stack.callback(self._forget)
            context = await self._open_context(stack)
            secrets = settings.secret_keys
            queue = Queue(
                engine=engine,
                signer=Signer(secrets),
                cipher=Cipher(secrets),
                record_ttl=settings.task_record_ttl,
                max_arguments=settings.task_max_arguments,
            )
            await engine.start()
            stack.push_async_callback(engine.stop)
            stack.push_async_callback(queue.close)
            portal = Portal()
            stack.callback(portal.close)
            # It limits direct calls only. Each job has its own thread, so no job waits for a
            # thread while its timeout runs.
            self.thread_limiter = CapacityLimiter(settings.task_concurrency)
            self._open = self._make_parts(settings, declared, queue, portal, context)
            try:
                if engine.in_process:
                    await stack.enter_async_context(self._consuming())
                yield
            finally:
                await stack.aclose()

    def _forget(self) -> None:
        self._open = self.thread_limiter = None

    async def _open_context(self, stack: AsyncExitStack) -> WorkerContext:
        hooks = {"request": [_send_correlation_id]}
        client = httpx2.AsyncClient(verify=ssl_context(), event_hooks=hooks)
        context = WorkerContext(
            http_client=await stack.enter_async_context(client),
            public_client=await stack.enter_async_context(open_public_client()),
        )
        for open_resources in self._lifespans:
            await stack.enter_async_context(open_resources(context))
        return context

    def _make_parts(
        self,
        settings: Settings,
        declared: DeclaredSchedules,
        queue: Queue,
        portal: Portal,
        context: WorkerContext,
    ) -> _Opened:
        history = History(settings.task_history_ttl)
        executor = Executor(queue, self.tasks, settings, history)
        limit = _stuck_limit(settings, queue.engine)
        return _Opened(
            queue=queue,
            portal=portal,
            context=context,
            executor=executor,
            watchdog=Watchdog(queue.engine, executor, settings.task_concurrency, limit),
            monitor=Monitor(queue.engine, settings.is_production),
            dead_letters=DeadLetters(queue),
            schedules=Schedules(queue, declared),
            history=history,
        )

    async def run(self, stop: asyncio.Event) -> None:
        """Run jobs until `stop` is set; call it inside `open`.

        Args:
            stop: Ends the work when it is set. Running jobs get their grace period.
        """
        opened = self._opened
        helpers = self._start_helpers(opened, stop)
        try:
            await opened.queue.engine.consume(opened.executor, stop)
        finally:
            await cancel_all(helpers)
            # In an outage, the queue keeps the stashed dead letters.
            with suppress(*upkeep.OUTAGE):
                await opened.dead_letters.move()
                await opened.history.write()

    def _start_helpers(self, opened: _Opened, stop: asyncio.Event) -> list[asyncio.Task[None]]:
        executor = opened.executor
        works = [
            upkeep.repeat("aborts", executor.cancel_aborted, upkeep.ABORT_SECONDS),
            upkeep.repeat(
                "dead letters",
                opened.dead_letters.move,
                upkeep.MOVE_SECONDS,
                opened.queue.engine.stashed,
            ),
            upkeep.repeat("jobs in the outbox", opened.queue.relay, upkeep.RELAY_SECONDS),
            upkeep.repeat("runs of history", opened.history.write, upkeep.WRITE_SECONDS),
            upkeep.repeat("checks", opened.watchdog.check_taking, upkeep.CHECK_SECONDS),
            upkeep.repeat("checks of the queue", opened.monitor.check, upkeep.MONITOR_SECONDS),
            opened.watchdog.keep_watching(stop),
        ]
        if not opened.queue.engine.in_process:
            works.append(_fire(opened.schedules))
        return [asyncio.create_task(work) for work in works]

    @asynccontextmanager
    async def fire_schedules(self) -> AsyncIterator[None]:
        """Fire the schedules during a block, if the job queue is off. Otherwise workers do it.

        Only the web process does this. A command may end before the jobs have run, and with the
        engine `local` they are lost then.
        """
        if not self.queue.engine.in_process:
            yield
            return
        firing = asyncio.create_task(_fire(self.schedules))
        try:
            yield
        finally:
            await cancel_all([firing])

    @asynccontextmanager
    async def _consuming(self) -> AsyncIterator[None]:
        stop = asyncio.Event()
        consumer = asyncio.create_task(self.run(stop))
        try:
            yield
        finally:
            stop.set()
            await consumer


async def _fire(schedules: Schedules) -> None:
    await upkeep.repeat("schedules", schedules.tick, upkeep.TICK_SECONDS)


def _stuck_limit(settings: Settings, engine: Engine) -> float | None:
    """Return the seconds after which a stuck worker ends its process; never if None.

    The web process also has other work, and in development a debugger may stop the event loop.
    """
    if settings.is_production and not engine.in_process:
        return settings.task_stuck_limit
    return None


async def _send_correlation_id(request: httpx2.Request) -> None:
    if correlation_id := TaskContext.get_correlation_id():
        request.headers.setdefault("X-Request-ID", correlation_id)


worker = Worker()
"""The worker of this service."""

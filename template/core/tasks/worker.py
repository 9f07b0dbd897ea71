"""The worker: the registry of tasks, and the code that opens and runs it."""

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import (
    AbstractAsyncContextManager,
    AsyncExitStack,
    asynccontextmanager,
)
from dataclasses import dataclass
from functools import partial
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, TypeVar

from anyio import CapacityLimiter

from core.cancelling import cancel_all
from core.config import Settings
from core.context import TaskContext
from core.logging import get_logger
from core.models import WorkerModel
from core.tasks import metrics, upkeep
from core.tasks.alerts import Alert, Alerts, make_conditions
from core.tasks.dead_letters import DeadLetters
from core.tasks.engine import Engine, describe_losses
from core.tasks.engines import build_engine
from core.tasks.errors import ScheduleError
from core.tasks.executor import Executor
from core.tasks.failures import FailureHooks, Hook, JobFailure
from core.tasks.heartbeat import Heartbeat, find_workers
from core.tasks.history import History
from core.tasks.job import Job
from core.tasks.jobs import Jobs
from core.tasks.message import Signer
from core.tasks.minutes import MinuteCounts
from core.tasks.monitor import Monitor
from core.tasks.portal import Portal
from core.tasks.queue import Queue
from core.tasks.schedules.declarations import DeclaredSchedules, build_schedules
from core.tasks.schedules.registry import ScheduleRegistry
from core.tasks.schedules.schedules import Schedules
from core.tasks.sensitive import Cipher
from core.tasks.settle import Settler
from core.tasks.statistics import Statistics
from core.tasks.watchdog import Watchdog
from core.worker_link import Report

# `_open_context` imports it, because most commands do not need it.
if TYPE_CHECKING:
    import httpx2

__all__ = ["Worker", "WorkerContext", "worker"]

logger = get_logger(__name__)

F = TypeVar("F", bound=Callable[[JobFailure], object])
A = TypeVar("A", bound=Callable[[Alert], object])


class WorkerContext(SimpleNamespace):
    """The resources that a worker opens for its tasks.

    Attributes:
        http_client: An HTTP client for addresses that you choose.
        public_client: An HTTP client for addresses that users name. Outside development it reaches
            the public internet only.
    """

    http_client: "httpx2.AsyncClient"
    public_client: "httpx2.AsyncClient"


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
    jobs: Jobs
    schedules: Schedules
    history: History
    heartbeat: Heartbeat
    minutes: MinuteCounts
    failures: FailureHooks
    alerts: Alerts


class Worker(ScheduleRegistry):
    """A registry of tasks. Task modules register their tasks when they are imported.

    Its properties raise RuntimeError if no service is running in this process.
    """

    def __init__(self) -> None:
        super().__init__()
        self._lifespans: list[Lifespan] = []
        self._failure_hooks: list[Hook] = []
        self._alert_hooks: list[Hook] = []
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
    def jobs(self) -> Jobs:
        """The jobs: list them by state, find and abort them."""
        return self._opened.jobs

    @property
    def schedules(self) -> Schedules:
        """The schedules: list, enable, disable and run them."""
        return self._opened.schedules

    @property
    def history(self) -> History:
        """The history: the runs that were kept."""
        return self._opened.history

    @property
    def statistics(self) -> Statistics:
        """The statistics: the number of runs, their durations, and the time that jobs waited."""
        return Statistics()

    @property
    def alerts(self) -> Alerts:
        """The alerts: `list` returns the ones that have not ended."""
        return self._opened.alerts

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

    async def workers(self) -> list[WorkerModel]:
        """Return the workers that are alive, by host and process id.

        A worker that was killed, or that cannot reach MongoDB, is no longer listed after a minute.
        """
        return await find_workers()

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

    def on_failure(self, hook: F) -> F:
        """Register a function that gets each job that failed for good, after it was recorded.

        Args:
            hook: Takes a `JobFailure`. A plain function runs in a thread. Errors are logged.
        """
        self._failure_hooks.append(hook)
        return hook

    def on_alert(self, hook: A) -> A:
        """Register a function that gets each alert, in one process.

        If the function fails, it gets the alert again after the next check.

        Args:
            hook: Takes an `Alert`. A plain function runs in a thread.
        """
        self._alert_hooks.append(hook)
        return hook

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
    async def open(self, settings: Settings, runs_jobs: bool = True) -> AsyncIterator[None]:
        """Open the queue and the context for a block. The engine `local` also runs jobs in it.

        Args:
            settings: The service's settings.
            runs_jobs: Whether to open the resources for tasks. If not, no job runs.

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
            context = await self._open_context(stack) if runs_jobs else WorkerContext()
            secrets = settings.secret_keys
            queue = Queue(
                engine=engine,
                signer=Signer(secrets),
                cipher=Cipher(secrets),
                record_ttl=settings.task_record_ttl,
                max_arguments=settings.task_max_arguments,
                history=History(settings.task_history_ttl, settings.task_completed_ttl),
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
                if engine.in_process and runs_jobs:
                    await stack.enter_async_context(self._consuming())
                yield
            finally:
                await stack.aclose()

    def _forget(self) -> None:
        self._open = self.thread_limiter = None

    async def _open_context(self, stack: AsyncExitStack) -> WorkerContext:
        import httpx2

        from core.services.targets import open_public_client, ssl_context

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
        minutes = MinuteCounts(queue.engine.name)
        failures = FailureHooks(self._failure_hooks)
        settler = Settler(queue, settings.task_max_retries, queue.history, minutes, failures)
        executor = Executor(queue, self.tasks, settings, settler)
        dead_letters = DeadLetters(queue)
        conditions = make_conditions(queue.engine, settings, declared.valid, dead_letters)
        hooks = self._find_alert_hooks(settings, context)
        limit = _stuck_limit(settings, queue.engine)
        return _Opened(
            queue=queue,
            portal=portal,
            context=context,
            executor=executor,
            watchdog=Watchdog(queue.engine, executor, settings.task_concurrency, limit),
            monitor=Monitor(queue.engine, settings.is_production),
            dead_letters=dead_letters,
            jobs=Jobs(queue, dead_letters),
            schedules=Schedules(queue, declared),
            history=queue.history,
            heartbeat=Heartbeat(settings, queue.engine, executor),
            minutes=minutes,
            failures=failures,
            alerts=Alerts(settings, conditions, hooks),
        )

    def _find_alert_hooks(self, settings: Settings, context: WorkerContext) -> list[Hook]:
        if not hasattr(context, "http_client"):
            return []  # a command, which raises no alerts
        from core.tasks.alerts.ready import make_ready_hooks

        return [*self._alert_hooks, *make_ready_hooks(settings, context.http_client)]

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
            await upkeep.finish("heartbeat", opened.heartbeat.stop)
            await upkeep.finish("runs of history", opened.history.write)
            await upkeep.finish("statistics", partial(opened.minutes.write, is_last=True))
            # In an outage, the queue keeps the stashed dead letters.
            await upkeep.finish("dead letters", opened.dead_letters.move)
            await opened.failures.close()

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
            upkeep.repeat("minutes of statistics", opened.minutes.write, upkeep.MINUTES_SECONDS),
            upkeep.repeat("checks", opened.watchdog.check_taking, upkeep.CHECK_SECONDS),
            upkeep.repeat("checks of the queue", opened.monitor.check, upkeep.MONITOR_SECONDS),
            opened.watchdog.keep_watching(stop),
        ]
        if not opened.queue.engine.in_process:
            works += [*_list_public_works(opened), opened.alerts.keep_checking()]
        return [asyncio.create_task(work) for work in works]

    @asynccontextmanager
    async def watch(self) -> AsyncIterator[None]:
        """Raise alerts during a block. If the job queue is off, log this, and fire the schedules.

        Only the web process does this, and only it counts as a worker. A command may end before
        the jobs have run, and with the engine `local` they are lost then.
        """
        works = [self.alerts.keep_checking()]
        engine = self.queue.engine
        if engine.in_process:
            logger.info(f"the job queue is off: {describe_losses(engine.promises)}")
            works += _list_public_works(self._opened)
        watching = [asyncio.create_task(work) for work in works]
        try:
            yield
        finally:
            await cancel_all(watching)

    @asynccontextmanager
    async def _consuming(self) -> AsyncIterator[None]:
        stop = asyncio.Event()
        consumer = asyncio.create_task(self.run(stop))
        try:
            yield
        finally:
            stop.set()
            await consumer


def _list_public_works(opened: _Opened) -> list[Coroutine[Any, Any, None]]:
    """Return the work of a listed worker: it fires schedules and sends heartbeats."""
    return [
        upkeep.repeat("schedules", opened.schedules.tick, upkeep.TICK_SECONDS),
        upkeep.repeat("heartbeat", opened.heartbeat.beat, upkeep.HEARTBEAT_SECONDS),
    ]


def _stuck_limit(settings: Settings, engine: Engine) -> float | None:
    """Return the seconds after which a stuck worker ends its process; never if None.

    The web process also has other work, and in development a debugger may stop the event loop.
    """
    if settings.is_production and not engine.in_process:
        return settings.task_stuck_limit
    return None


async def _send_correlation_id(request: "httpx2.Request") -> None:
    if correlation_id := TaskContext.get_correlation_id():
        request.headers.setdefault("X-Request-ID", correlation_id)


worker = Worker()
"""The worker of this service."""

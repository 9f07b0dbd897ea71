"""The one path on which every job runs, whatever queue carried it."""

import asyncio
import random
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

import anyio
import structlog
from pydantic_core import to_jsonable_python

from core.config import Settings
from core.context import TaskContext
from core.logging import get_logger, mask_texts, masking
from core.tasks import metrics
from core.tasks.chain import publish_next, stop_rest
from core.tasks.dead_letters import make_letter
from core.tasks.errors import (
    BadMessage,
    InvalidArguments,
    JobExpired,
    PermanentError,
    QueueUnavailable,
    describe_error,
)
from core.tasks.history import History
from core.tasks.job import CurrentJob, _current
from core.tasks.message import Message
from core.tasks.outcome import Dead, Outcome, Retry, Success
from core.tasks.queue import Queue
from core.tasks.records import Fields, JobStatus
from core.tasks.sensitive import texts
from core.tasks.task import Task

logger = get_logger(__name__)

TRY_AGAIN_SECONDS = 1.0
UNKNOWN_SECONDS = 5.0
SUSPECT_DELIVERIES = 3
"""Deliveries in a row without an outcome from which a job runs without other such jobs beside it."""


@dataclass(frozen=True, slots=True)
class Policy:
    """What holds for tasks that do not say otherwise.

    Attributes:
        max_retries: How often a failed job is tried again.
        timeout: Seconds that one attempt may take.
        record_ttl: Seconds for which the record of an ended job is kept.
        max_deliveries: How often a job may end its worker process before it is dead.
        unknown_period: Seconds that a job of an unknown task waits for a worker that knows it.
    """

    max_retries: int
    timeout: float
    record_ttl: float
    max_deliveries: int
    unknown_period: float

    @classmethod
    def of(cls, settings: Settings) -> "Policy":
        """As the settings say."""
        return cls(
            settings.task_max_retries,
            settings.task_timeout,
            settings.task_record_ttl,
            settings.task_max_deliveries,
            settings.task_unknown_period,
        )


class Executor:
    """Runs messages as jobs.

    Attributes:
        buried: Is set when there is a new dead letter.
        taken_at: When it got its last message, by `time.monotonic`.
    """

    def __init__(self, queue: Queue, tasks: Mapping[str, Task[..., Any]], policy: Policy, history: History) -> None:
        self.buried = asyncio.Event()
        self.taken_at = time.monotonic()
        self._history = history
        self._queue = queue
        self._records = queue.engine.records
        self._tasks = tasks
        self._policy = policy
        self._running: dict[str, asyncio.Timeout | None] = {}
        self._aborted: set[str] = set()
        self._suspect = asyncio.Lock()

    async def execute(self, job_id: str, body: bytes) -> Outcome:
        """Run one message. It never raises; only a cancellation passes through it."""
        self.taken_at = time.monotonic()
        try:
            return await self._execute(job_id, body)
        except QueueUnavailable as error:
            logger.warning("queue is down, the job will run again", job_id=job_id, error=str(error))
        except Exception:
            # A fault of this machinery, not of the job, which is therefore kept.
            logger.exception("job could not be run, it will run again", job_id=job_id)
        return Retry(TRY_AGAIN_SECONDS)

    @property
    def running(self) -> int:
        """How many jobs run now."""
        return len(self._running)

    async def cancel_aborted(self) -> None:
        """Cancel the running jobs that somebody aborts. Costs nothing while none runs."""
        ids = list(self._running)
        for job_id, record in zip(ids, await self._records.read(ids) if ids else [], strict=True):
            timeout = self._running.get(job_id)
            if record.get("abort") and timeout and job_id not in self._aborted:
                self._aborted.add(job_id)
                timeout.reschedule(0)

    async def _execute(self, job_id: str, body: bytes) -> Outcome:
        if job_id in self._running:
            # Its queue took this worker for dead after an outage, and delivers the job once more.
            return Retry(TRY_AGAIN_SECONDS)
        record = await self._records.begin(job_id, SUSPECT_DELIVERIES)
        if not record.get("suspect"):
            return await self._start(job_id, body, record)
        # Its worker has ended several times while it ran. Whether it was the cause shows when no other suspect runs
        # beside it: one that is innocent then completes.
        if self._suspect.locked():
            return Retry(random.uniform(1, 3))
        async with self._suspect:
            return await self._start(job_id, body, await self._records.begin(job_id))

    async def _start(self, job_id: str, body: bytes, record: Fields) -> Outcome:
        if JobStatus(record["state"]).is_final:
            return Success()  # delivered once more after it had ended, or aborted before it began
        self._running[job_id] = None
        metrics.RUNNING.inc()
        try:
            return await self._read(job_id, body, record)
        finally:
            metrics.RUNNING.dec()
            del self._running[job_id]
            self._aborted.discard(job_id)

    async def _read(self, job_id: str, body: bytes, record: Fields) -> Outcome:
        try:
            message = self._queue.signer.load(body)
            if message.id != job_id:
                raise BadMessage(f"it is the message of job {message.id}")
        except BadMessage as error:
            logger.error("message refused", job_id=job_id, error=str(error))
            return await self._bury(job_id, None, body, record.get("attempt", 1), describe_error(error))
        run = _Run(message, body, record, self._tasks.get(message.task))
        token = _current.set(CurrentJob(job_id, run.attempt, message.correlation_id, self._records))
        bound = structlog.contextvars.bound_contextvars(job_id=job_id, task=message.task, attempt=run.attempt)
        try:
            with TaskContext.use(message.correlation_id, message.owner), bound, masking():
                return await self._run(run)
        finally:
            _current.reset(token)

    async def _run(self, run: "_Run") -> Outcome:
        if run.task is None and (outcome := await self._wait_for_newer_worker(run)):
            return outcome
        if run.attempt == 1 and run.deliveries == 1:
            due = run.record.get("at") or run.message.enqueued_at
            metrics.WAIT.labels(run.message.task).observe(max(0.0, time.time() - due))
        try:
            result = await self._call(run)
        except (KeyboardInterrupt, GeneratorExit):
            raise
        except BaseException as error:
            # A job may raise CancelledError or SystemExit by itself, and must then fail as with any other error.
            if isinstance(error, asyncio.CancelledError) and _is_being_cancelled():
                await self._put_back(run.message.id)
                raise
            return await (self._abort(run) if run.message.id in self._aborted else self._fail(run, error))
        logger.info("job completed", seconds=self._note(run, "completed"))
        fields = {"state": JobStatus.COMPLETED, "result": result}
        await self._records.write(run.message.id, fields, self._policy.record_ttl)
        return Success()

    async def _call(self, run: "_Run") -> Any:
        """Call the function.

        Returns:
            Its result as plain JSON data.
        """
        message, task = run.message, run.task
        if run.attempt == 1 and message.expires_at and time.time() > message.expires_at:
            raise JobExpired("no worker was free for it in time")
        if run.deliveries > self._policy.max_deliveries:
            raise PermanentError(f"it has ended its worker process {run.deliveries - 1} times in a row")
        if task is None:
            raise PermanentError(f"no task named {message.task} is registered; is its module imported?")
        call = task.arguments.load(self._open(message))
        mask_texts(texts([call.arguments[name] for name in message.sensitive]))  # bytes, for one, come as base64
        async with asyncio.timeout(task.options.timeout or self._policy.timeout) as timeout:
            self._running[message.id] = timeout
            value = await task(*call.args, **call.kwargs)
        result = _as_json(message.task, value)
        if message.rest:
            # Before this stage is marked as completed: whatever happens in between, the next one is enqueued, and its
            # id lets that happen once.
            await publish_next(self._queue, self._tasks, message, value)
        return result

    def _open(self, message: Message) -> dict[str, Any]:
        """Decrypt the sensitive arguments; from here on this job's log lines and errors do not show them."""
        opened = {name: self._queue.cipher.open(message.arguments[name]) for name in message.sensitive}
        mask_texts(texts([*opened.values()]))
        return message.arguments | opened

    async def _wait_for_newer_worker(self, run: "_Run") -> Retry | None:
        """During a deploy an old worker may meet a task that only newer ones know."""
        since = run.record.get("unknown_since", time.time())
        if time.time() - since >= self._policy.unknown_period:
            return None
        logger.warning("task is not known here, waiting for a newer worker")
        return await self._retry(run, UNKNOWN_SECONDS, {"unknown_since": since})

    async def _abort(self, run: "_Run") -> Outcome:
        logger.info("job aborted", seconds=self._note(run, "aborted"))
        await stop_rest(self._queue, run.message, "was aborted", self._policy.record_ttl)
        await self._records.write(run.message.id, {"state": JobStatus.ABORTED}, self._policy.record_ttl)
        return Success()

    async def _fail(self, run: "_Run", error: BaseException) -> Outcome:
        details = describe_error(error)
        summary = f"{details['type']}: {details['message']}"
        options = run.task.options if run.task else None
        retries = self._policy.max_retries if options is None or options.max_retries is None else options.max_retries
        if options is None or isinstance(error, PermanentError | InvalidArguments) or run.attempt > retries:
            seconds = self._note(run, "failed", summary)
            # Rendered before, since an error may hold text that no log takes.
            logger.error("job failed", seconds=seconds, error=summary, exception=details["traceback"])
            await stop_rest(self._queue, run.message, "failed", self._policy.record_ttl)
            return await self._bury(run.message.id, run.message, run.body, run.attempt, details)
        delay = _backoff(run.attempt, options.retry_delay, options.retry_max_delay)
        seconds = self._note(run, "retried", summary)
        logger.warning("attempt failed, will retry", seconds=seconds, error=summary, retry_in=round(delay, 1))
        return await self._retry(run, delay, {"attempt": run.attempt + 1})

    async def _retry(self, run: "_Run", delay: float, fields: Fields) -> Retry:
        fields = {"state": JobStatus.SCHEDULED, "at": time.time() + delay, "deliveries": 0, **fields}
        await self._records.write(run.message.id, fields, None)
        return Retry(delay)

    async def _put_back(self, job_id: str) -> None:
        """The worker stops before the job has ended; the queue delivers it again."""
        with anyio.CancelScope(shield=True), suppress(QueueUnavailable):
            await self._records.write(job_id, {"state": JobStatus.PENDING, "deliveries": 0}, None)

    async def _bury(
        self, job_id: str, message: Message | None, body: bytes, attempt: int, error: dict[str, str]
    ) -> Outcome:
        letter = make_letter(job_id, message, body, attempt, error)
        fields = {"state": JobStatus.FAILED, "error": error}
        await self._records.bury(job_id, fields, self._policy.record_ttl, letter)
        self.buried.set()
        return Dead(f"{error['type']}: {error['message']}")

    def _note(self, run: "_Run", outcome: str, error: str | None = None) -> float:
        """Count a run and keep it in history.

        Returns:
            How many seconds it took.
        """
        seconds = round(time.perf_counter() - run.started, 4)
        metrics.ENDED.labels(run.message.task, outcome).inc()
        metrics.DURATION.labels(run.message.task).observe(seconds)
        self._history.note(run.message, run.attempt, outcome, seconds, error)
        return seconds


@dataclass(slots=True)
class _Run:
    """One run of a job.

    Attributes:
        task: None where this process does not know it.
        record: As it was when the run began.
        started: By `time.perf_counter`.
    """

    message: Message
    body: bytes
    record: Fields
    task: Task[..., Any] | None
    started: float = field(default_factory=time.perf_counter)

    @property
    def attempt(self) -> int:
        return int(self.record.get("attempt", 1))

    @property
    def deliveries(self) -> int:
        """How often its queue has delivered it since it was last known to be alright."""
        return int(self.record.get("deliveries", 1))


def _as_json(task: str, value: Any) -> Any:
    try:
        return to_jsonable_python(value)
    except Exception as error:
        reason = str(error).splitlines()[0]
        raise PermanentError(f"task {task} returned what cannot be kept as JSON: {reason}") from None


def _is_being_cancelled() -> bool:
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0


def _backoff(attempt: int, delay: float, max_delay: float) -> float:
    """Seconds until the next attempt: capped exponential backoff with full jitter.

    The rule is "full jitter" of the AWS Architecture Blog, "Exponential Backoff And Jitter" (2015).
    """
    return random.uniform(0, min(max_delay, delay * 2 ** min(attempt - 1, 32)))

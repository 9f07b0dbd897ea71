"""How runs of jobs end: records, retries, dead letters, figures and history."""

import asyncio
import random
import time
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

import anyio

from core.config import Settings
from core.logging import get_logger
from core.tasks import metrics
from core.tasks.chain import abort_rest
from core.tasks.dead_letters import make_dead_letter
from core.tasks.errors import (
    InvalidArguments,
    PermanentError,
    QueueUnavailable,
    describe_error,
)
from core.tasks.history import History
from core.tasks.message import Message
from core.tasks.options import TaskOptions
from core.tasks.outcome import Dead, Outcome, Retry, Success
from core.tasks.queue import Queue
from core.tasks.records import (
    ErrorFields,
    JobRecord,
    JobStatus,
    RecordFields,
)
from core.tasks.task import Task

logger = get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Policy:
    """The rules for tasks that set no options.

    Attributes:
        max_retries: How often a failed job is retried.
        timeout: The longest time that one attempt may take, in seconds.
        record_ttl: Seconds for which the record of an ended job is kept.
        max_deliveries: How often a job may end its worker process before it is dead.
        unknown_period: Seconds for which a job of an unknown task waits for a newer worker.
    """

    max_retries: int
    timeout: float
    record_ttl: float
    max_deliveries: int
    unknown_period: float

    @classmethod
    def from_settings(cls, settings: Settings) -> "Policy":
        """Return the rules of these settings."""
        return cls(
            max_retries=settings.task_max_retries,
            timeout=settings.task_timeout,
            record_ttl=settings.task_record_ttl,
            max_deliveries=settings.task_max_deliveries,
            unknown_period=settings.task_unknown_period,
        )


@dataclass(slots=True)
class Run:
    """One run of a job.

    Attributes:
        message: The job's message.
        body: The message's bytes.
        record: The job's record when the run began.
        task: The job's task, or None if this process does not know it.
        started: When the run began, by `time.perf_counter`.
    """

    message: Message
    body: bytes
    record: JobRecord
    task: Task[..., Any] | None
    started: float = field(default_factory=time.perf_counter)

    @property
    def seconds(self) -> float:
        """How long the run has taken, in seconds."""
        return round(time.perf_counter() - self.started, 4)

    @property
    def options(self) -> TaskOptions | None:
        """The task's options, or None if this process does not know the task."""
        return self.task.options if self.task else None


class Settler:
    """Writes down how each run ended.

    Args:
        queue: The queue, with the jobs' records.
        policy: The rules for tasks that set no options.
        history: Keeps failed attempts and runs of schedules.

    Attributes:
        stashed: Set when a dead letter was stashed.
    """

    def __init__(self, queue: Queue, policy: Policy, history: History) -> None:
        self.stashed = asyncio.Event()
        self._queue = queue
        self._records = queue.engine.records
        self._policy = policy
        self._history = history

    async def complete(self, run: Run, result: Any) -> Success:
        """Settle a run that succeeded.

        Args:
            run: The run.
            result: The task's result as plain JSON data.
        """
        seconds = self._note(run, "completed")
        logger.info("job completed", seconds=seconds)
        await self._end(run, {"state": JobStatus.COMPLETED, "result": result})
        return Success()

    async def abort(self, run: Run) -> Success:
        """Settle a run that was aborted."""
        seconds = self._note(run, "aborted")
        logger.info("job aborted", seconds=seconds)
        await abort_rest(self._queue, run.message, "was aborted", self._policy.record_ttl)
        await self._end(run, {"state": JobStatus.ABORTED})
        return Success()

    async def fail(self, run: Run, error: BaseException) -> Outcome:
        """Settle a run that raised an error: retry the job, or let it fail for good.

        Args:
            run: The run.
            error: The error that the run raised.
        """
        details = describe_error(error)
        summary = f"{details['type']}: {details['message']}"
        options = run.options
        if options is None or not self._may_retry(run, options, error):
            return await self._fail_for_good(run, details, summary)
        delay = _backoff(run.record.attempt, options.retry_delay, options.retry_max_delay)
        seconds = self._note(run, "retried", summary)
        retry_in = round(delay, 1)
        logger.warning(
            "attempt failed",
            seconds=seconds,
            error=summary,
            retry_in=retry_in,
        )
        return await self.retry(run, delay, {"attempt": run.record.attempt + 1})

    async def retry(self, run: Run, delay: float, fields: RecordFields) -> Retry:
        """Let a job run again.

        Args:
            run: The run that ended.
            delay: Seconds to wait.
            fields: Further fields of the job's record.
        """
        scheduled: RecordFields = {
            "state": JobStatus.SCHEDULED,
            "at": time.time() + delay,
            "deliveries": 0,
        }
        await self._records.write(run.message.id, {**scheduled, **fields}, None)
        return Retry(delay)

    async def refuse(self, job_id: str, body: bytes, attempt: int, error: ErrorFields) -> Dead:
        """Settle a job whose message cannot be read.

        Args:
            job_id: The job's id.
            body: The message's bytes.
            attempt: The number of the attempt.
            error: Why the message cannot be read.
        """
        logger.error("message refused", job_id=job_id, error=error["message"])
        return await self._stash(job_id, None, body, attempt, error)

    async def put_back(self, job_id: str) -> None:
        """Mark a job as pending because its worker stops. The queue delivers it again.

        Args:
            job_id: The job's id.
        """
        fields: RecordFields = {"state": JobStatus.PENDING, "deliveries": 0}
        with anyio.CancelScope(shield=True), suppress(QueueUnavailable):
            await self._records.write(job_id, fields, None)

    def _may_retry(self, run: Run, options: TaskOptions, error: BaseException) -> bool:
        if isinstance(error, PermanentError | InvalidArguments):
            return False
        retries = options.max_retries
        if retries is None:
            retries = self._policy.max_retries
        return run.record.attempt <= retries

    async def _fail_for_good(self, run: Run, details: ErrorFields, summary: str) -> Dead:
        seconds = self._note(run, "failed", summary)
        # The traceback is a text already: an error may hold text that no log accepts.
        traceback = details["traceback"]
        logger.error(
            "job failed",
            seconds=seconds,
            error=summary,
            exception=traceback,
        )
        message = run.message
        await abort_rest(self._queue, message, "failed", self._policy.record_ttl)
        return await self._stash(message.id, message, run.body, run.record.attempt, details)

    async def _stash(
        self,
        job_id: str,
        message: Message | None,
        body: bytes,
        attempt: int,
        error: ErrorFields,
    ) -> Dead:
        dead_letter = make_dead_letter(job_id, message, body, attempt, error)
        fields: RecordFields = {"state": JobStatus.FAILED, "error": error}
        await self._records.stash(job_id, fields, self._policy.record_ttl, dead_letter)
        self.stashed.set()
        return Dead(f"{error['type']}: {error['message']}")

    async def _end(self, run: Run, fields: RecordFields) -> None:
        await self._records.write(run.message.id, fields, self._policy.record_ttl)

    def _note(self, run: Run, ended_as: str, error: str | None = None) -> float:
        """Count a run, add it to the history, and return its seconds."""
        seconds = run.seconds
        task = run.message.task
        metrics.ENDED.labels(task, ended_as).inc()
        metrics.DURATION.labels(task).observe(seconds)
        self._history.note(run.message, run.record.attempt, ended_as, seconds, error)
        return seconds


def _backoff(attempt: int, delay: float, max_delay: float) -> float:
    """Return the seconds until the next attempt: capped exponential backoff with full jitter.

    The rule is "full jitter" of the AWS Architecture Blog, "Exponential Backoff And Jitter" (2015).
    """
    doubled = delay * 2 ** min(attempt - 1, 32)
    return random.uniform(0, min(max_delay, doubled))

"""The end of a run: the job's record, a retry or a dead letter, metrics and history."""

import asyncio
import random
import time
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

import anyio

from core.logging import get_logger
from core.tasks import metrics
from core.tasks.chain import abort_rest
from core.tasks.errors import (
    InvalidArguments,
    JobExpired,
    JobTakenOver,
    PermanentError,
    QueueUnavailable,
    RetryAfter,
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
from core.tasks.stash import make_dead_letter
from core.tasks.task import AnyTask

logger = get_logger(__name__)


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
    task: AnyTask | None
    started: float = field(default_factory=time.perf_counter)


class Settler:
    """Records how each run ended.

    If another worker has taken the job over, nothing is recorded, and the methods raise
    `JobTakenOver`.

    Args:
        queue: The queue, with the jobs' records.
        max_retries: The largest number of retries, for tasks that do not set it.
        history: Takes failed attempts and runs of schedules.

    Attributes:
        stashed: Set when a dead letter was stashed.
    """

    def __init__(self, queue: Queue, max_retries: int, history: History) -> None:
        self.stashed = asyncio.Event()
        self._queue = queue
        self._records = queue.engine.records
        self._max_retries = max_retries
        self._history = history

    async def complete(self, run: Run, result: Any) -> Success:
        """Settle a run that succeeded.

        Args:
            run: The run.
            result: The task's result as plain JSON data.
        """
        await self._end(run, {"state": JobStatus.COMPLETED, "result": result}, result)
        seconds = self._note(run, "completed")
        logger.info("job completed", seconds=seconds)
        return Success()

    async def abort(self, run: Run) -> Success:
        """Settle a run that was aborted."""
        await self._end(run, {"state": JobStatus.ABORTED})
        seconds = self._note(run, "aborted")
        logger.info("job aborted", seconds=seconds)
        await abort_rest(self._queue, run.message, JobStatus.ABORTED)
        return Success()

    async def fail(self, run: Run, error: BaseException) -> Outcome:
        """Settle a run that raised an error: retry the job, or let it fail for good.

        Args:
            run: The run.
            error: The error that the run raised.
        """
        if isinstance(error, RetryAfter):
            return await self._postpone(run, error)
        details = describe_error(error)
        options = self._retry_options(run, error)
        if options is None:
            return await self._fail_for_good(run, details)
        attempt = run.record.attempt
        delay = _backoff(options, attempt)
        summary = _summarize(details)
        retry = await self.retry(run.message.id, run.record, delay, {"attempt": attempt + 1})
        seconds = self._note(run, "retried", summary)
        logger.warning(
            "attempt failed",
            seconds=seconds,
            error=summary,
            retry_in=round(delay, 1),
        )
        return retry

    async def _postpone(self, run: Run, error: RetryAfter) -> Outcome:
        """Let a job run again when its task asked for it. The attempt does not count."""
        expires_at = run.message.expires_at
        if expires_at and time.time() + error.seconds > expires_at:
            expired = JobExpired(f"{error}, but it expires earlier")
            return await self._fail_for_good(run, describe_error(expired))
        retry = await self.retry(run.message.id, run.record, error.seconds, {})
        seconds = self._note(run, "retried", _summarize(describe_error(error)))
        logger.info("job postponed", seconds=seconds, retry_in=error.seconds)
        return retry

    async def retry(
        self,
        job_id: str,
        record: JobRecord,
        delay: float,
        fields: RecordFields,
    ) -> Retry:
        """Let a job run again.

        Args:
            job_id: The job's id.
            record: The job's record when the run began.
            delay: Seconds to wait.
            fields: Further fields to set in the job's record.
        """
        scheduled: RecordFields = {
            "state": JobStatus.SCHEDULED,
            "at": time.time() + delay,
            "deliveries": 0,
            "blocked": 0,
            "unknown_since": None,
            **fields,
        }
        await self._write(job_id, record, scheduled, None)
        return Retry(delay)

    async def refuse(
        self,
        job_id: str,
        body: bytes,
        record: JobRecord,
        error: ErrorFields,
    ) -> Dead:
        """Settle a job whose message cannot be read.

        Args:
            job_id: The job's id.
            body: The message's bytes.
            record: The job's record when the run began.
            error: Why the message cannot be read.
        """
        dead = await self._stash(job_id, None, body, record, error)
        logger.error("message refused", job_id=job_id, error=error["message"])
        return dead

    async def put_back(self, run: Run) -> None:
        """Mark a job as pending because its worker is stopping. The queue delivers it again.

        Args:
            run: The run that the worker interrupts.
        """
        fields: RecordFields = {"state": JobStatus.PENDING, "deliveries": 0, "blocked": 0}
        with anyio.CancelScope(shield=True), suppress(QueueUnavailable, JobTakenOver):
            await self._write(run.message.id, run.record, fields, None)

    async def check_owner(self, run: Run) -> None:
        """Check that a run may still change the later stages of its chain.

        Args:
            run: The run.

        Raises:
            JobTakenOver: Another worker runs the job, or has ended it.
        """
        if run.message.rest:
            await self._write(run.message.id, run.record, {"state": JobStatus.RUNNING}, None)

    def _retry_options(self, run: Run, error: BaseException) -> TaskOptions | None:
        """Return the task's options, or None if the job must not be retried."""
        if run.task is None or isinstance(error, PermanentError | InvalidArguments):
            return None
        options = run.task.options
        retries = options.max_retries
        if retries is None:
            retries = self._max_retries
        return options if run.record.attempt <= retries else None

    async def _fail_for_good(self, run: Run, details: ErrorFields) -> Dead:
        message = run.message
        dead = await self._stash(message.id, message, run.body, run.record, details)
        seconds = self._note(run, "failed", dead.error)
        logger.error(
            "job failed",
            seconds=seconds,
            error=dead.error,
            # This text is clean. The exception itself may hold text that no log accepts.
            exception=details["traceback"],
        )
        await abort_rest(self._queue, message, JobStatus.FAILED)
        return dead

    async def _stash(
        self,
        job_id: str,
        message: Message | None,
        body: bytes,
        record: JobRecord,
        error: ErrorFields,
    ) -> Dead:
        dead_letter = make_dead_letter(job_id, message, body, record.attempt, error)
        fields: RecordFields = {"state": JobStatus.FAILED, "error": error}
        if message is not None:
            signed = self._queue.sign_record(job_id, message.task, message.owner)
            fields = {**fields, **signed}
        ttl = self._queue.record_ttl
        if not await self._records.stash(job_id, fields, ttl, dead_letter, record.fence):
            raise JobTakenOver
        self.stashed.set()
        return Dead(_summarize(error))

    async def _end(self, run: Run, fields: RecordFields, *result: Any) -> None:
        message = run.message
        signed = self._queue.sign_record(message.id, message.task, message.owner, *result)
        ttl = self._queue.record_ttl
        await self._write(message.id, run.record, {**fields, **signed}, ttl)

    async def _write(
        self,
        job_id: str,
        record: JobRecord,
        fields: RecordFields,
        ttl: float | None,
    ) -> None:
        if not await self._records.write(job_id, fields, ttl, record.fence):
            raise JobTakenOver

    def _note(self, run: Run, ended_as: str, error: str | None = None) -> float:
        """Count a run, add it to the history, and return its seconds."""
        seconds = round(time.perf_counter() - run.started, 4)
        message = run.message
        metrics.ENDED.labels(message.task, ended_as).inc()
        metrics.DURATION.labels(message.task).observe(seconds)
        self._history.note(message, run.record.attempt, ended_as, seconds, error)
        return seconds


def _summarize(error: ErrorFields) -> str:
    if not error["message"]:
        return error["type"]
    return f"{error['type']}: {error['message']}"


def _backoff(options: TaskOptions, attempt: int) -> float:
    """Return the seconds until the next attempt: capped exponential backoff.

    The jitter is the "full jitter" of the AWS Architecture Blog, "Exponential Backoff And Jitter"
    (2015).
    """
    doublings = min(attempt - 1, 32)
    doubled = options.retry_delay * 2**doublings
    longest = min(options.retry_max_delay, doubled)
    return random.uniform(0, longest) if options.jitter else longest

"""The end of a run: the job's record, a retry or a dead letter, metrics and history."""

import random
import time
from collections.abc import Callable
from contextvars import copy_context
from dataclasses import dataclass, field, replace
from functools import partial
from typing import TYPE_CHECKING, Any

from core.logging import DirectLogger, get_logger
from core.tasks import metrics
from core.tasks.chain import stop_rest, stop_rest_unverified
from core.tasks.engine import Delivery
from core.tasks.errors import (
    InvalidArguments,
    JobExpired,
    PermanentError,
    RetryAfter,
    describe_error,
)
from core.tasks.failures import FailureHooks
from core.tasks.history import History
from core.tasks.message import Message
from core.tasks.minutes import MinuteCounts
from core.tasks.options import TaskOptions
from core.tasks.outcome import Ended, Envelope, Outcome, Retry
from core.tasks.queue import Queue
from core.tasks.records import (
    ErrorFields,
    JobRecord,
    JobStatus,
    RecordFields,
    StashedLetter,
)
from core.tasks.stash import make_dead_letter
from core.tasks.task import AnyTask

if TYPE_CHECKING:
    from core.traces.spans import JobSpan

logger = get_logger(__name__)
direct = DirectLogger(__name__)


@dataclass(slots=True)
class Run:
    """One run of a job.

    Attributes:
        message: The job's message.
        body: The message's bytes.
        record: The job's record when the run began.
        task: The job's task, or None if this process does not know it.
        started: When the run began, by `time.perf_counter`.
        span: The run's span, or None if traces are off.
    """

    message: Message
    body: bytes
    record: JobRecord
    task: AnyTask | None
    started: float = field(default_factory=time.perf_counter)
    span: "JobSpan | None" = None

    def link(self) -> RecordFields:
        """Return the field of the record by which the next attempt finds this one."""
        return {"traceparent": self.span.traceparent} if self.span else {}


class Settler:
    """Decides how each run ended. The engine then records it.

    Args:
        queue: The queue, which signs the jobs' records.
        max_retries: The largest number of retries, for tasks that do not set it.
        history: Takes the runs.
        minutes: Counts the runs of each minute.
        failures: Takes final failures.
    """

    def __init__(
        self,
        queue: Queue,
        max_retries: int,
        history: History,
        minutes: MinuteCounts,
        failures: FailureHooks,
    ) -> None:
        self._queue = queue
        self._max_retries = max_retries
        self._history = history
        self._minutes = minutes
        self._failures = failures

    def note_start(self, run: Run) -> None:
        """Count the time that a job waited for its first run."""
        due_at = run.record.at or run.message.enqueued_at
        waited = max(0.0, time.time() - due_at)
        metrics.wait(run.message.task).observe(waited)
        self._minutes.note_wait(run.message.task, waited)

    def complete(self, run: Run, result: Any, next_stage: Envelope | None) -> Ended:
        """Settle a run that succeeded.

        Args:
            run: The run.
            result: The task's result as plain JSON data.
            next_stage: The next stage of the job's chain.
        """
        note = self._prepare_note(run, "completed", partial(direct.info, "job completed"))
        fields = self._sign(run, {"state": JobStatus.COMPLETED, "result": result}, result)
        return Ended(fields, self._queue.record_ttl, next_stage=next_stage, note=note)

    def abort(self, run: Run) -> Ended:
        """Settle a run that was aborted."""
        note = self._prepare_note(run, "aborted", partial(logger.info, "job aborted"))
        fields = self._sign(run, {"state": JobStatus.ABORTED})
        stopped = stop_rest(self._queue, run.message, JobStatus.ABORTED)
        return Ended(fields, self._queue.record_ttl, stopped=stopped, note=note)

    def fail(self, run: Run, error: BaseException) -> Outcome:
        """Settle a run that raised an error: retry the job, or let it fail for good.

        Args:
            run: The run.
            error: The error that the run raised.
        """
        if isinstance(error, RetryAfter):
            return self._postpone(run, error)
        details = describe_error(error)
        options = self._retry_options(run, error)
        if options is None:
            return self._fail_for_good(run, details)
        attempt = run.record.attempt
        delay = _backoff(options, attempt)
        summary = _summarize(details)
        retry_in = round(delay, 1)
        log = partial(logger.warning, "attempt failed", error=summary, retry_in=retry_in)
        note = self._prepare_note(run, "retried", log, summary)
        return replace(self.retry(delay, {"attempt": attempt + 1, **run.link()}), note=note)

    def _postpone(self, run: Run, error: RetryAfter) -> Outcome:
        """Let a job run again when its task asked for it. The attempt does not count."""
        expires_at = run.message.expires_at
        if expires_at and time.time() + error.seconds > expires_at:
            expired = JobExpired(f"{error}, but it expires earlier")
            return self._fail_for_good(run, describe_error(expired))
        log = partial(logger.info, "job postponed", retry_in=error.seconds)
        note = self._prepare_note(run, "retried", log, _summarize(describe_error(error)))
        return replace(self.retry(error.seconds, run.link()), note=note)

    def retry(self, delay: float, fields: RecordFields) -> Retry:
        """Let a job run again.

        Args:
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
        return Retry(delay, scheduled)

    async def refuse(self, delivery: Delivery, error: ErrorFields) -> Ended:
        """Settle a job whose message cannot be read, or has a wrong signature.

        Args:
            delivery: The message.
            error: Why it is refused.
        """
        job_id, body = delivery.id, delivery.body
        status = JobStatus.FAILED
        log = partial(logger.error, "message refused", job_id=job_id, error=error["message"])
        letter = make_dead_letter(job_id, None, body, delivery.record.attempt, error)

        def note() -> None:
            log()
            self._failures.note(letter)

        fields: RecordFields = {"state": status, "error": error}
        stopped = await stop_rest_unverified(self._queue, job_id, body, status)
        return Ended(fields, self._queue.record_ttl, letter, stopped=stopped, note=note)

    def _retry_options(self, run: Run, error: BaseException) -> TaskOptions | None:
        """Return the task's options, or None if the job must not be retried."""
        if run.task is None or isinstance(error, PermanentError | InvalidArguments):
            return None
        options = run.task.options
        retries = options.max_retries
        if retries is None:
            retries = self._max_retries
        return options if run.record.attempt <= retries else None

    def _fail_for_good(self, run: Run, details: ErrorFields) -> Ended:
        error = _summarize(details)
        # The traceback's text is clean. The exception itself may hold text that no log accepts.
        log = partial(logger.error, "job failed", error=error, exception=details["traceback"])
        message = run.message
        letter = make_dead_letter(
            message.id,
            message,
            run.body,
            run.record.attempt,
            details,
            run.link().get("traceparent"),
        )
        note = self._prepare_note(run, "failed", log, error, letter)
        fields = self._sign(run, {"state": JobStatus.FAILED, "error": details})
        stopped = stop_rest(self._queue, message, JobStatus.FAILED)
        return Ended(fields, self._queue.record_ttl, letter, stopped=stopped, note=note)

    def _sign(self, run: Run, fields: RecordFields, *result: Any) -> RecordFields:
        message = run.message
        signed = self._queue.sign_record(message.id, message.task, message.owner, *result)
        return {**fields, **signed}

    def _prepare_note(
        self,
        run: Run,
        ended_as: str,
        log: Callable[..., object],
        error: str | None = None,
        letter: StashedLetter | None = None,
    ) -> Callable[[], None]:
        """End a run's span, and return a function that counts, keeps and logs the run.

        The engine calls that function when it has recorded the outcome.
        """
        if run.span:
            run.span.end(ended_as, error)
        seconds = round(time.perf_counter() - run.started, 4)
        message = run.message
        context = copy_context()

        def note() -> None:
            metrics.ended(message.task, ended_as).inc()
            metrics.duration(message.task, ended_as).observe(seconds)
            self._minutes.note_end(message.task, ended_as, seconds)
            self._history.note(message, run.record, ended_as, seconds, error)
            context.run(log, seconds=seconds)
            if letter:
                self._failures.note(letter)

        return note


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

"""The one path on which every job runs, whatever queue carried it."""

import asyncio
import random
import time
import traceback
from collections.abc import Mapping
from contextlib import suppress
from typing import Any

import anyio
import structlog
from pydantic_core import to_jsonable_python

from core.context import TaskContext
from core.logging import get_logger
from core.tasks.errors import BadMessage, InvalidArguments, PermanentError, QueueUnavailable
from core.tasks.job import CurrentJob, _current
from core.tasks.message import Message
from core.tasks.outcome import Dead, Outcome, Retry, Success
from core.tasks.queue import Queue
from core.tasks.records import Fields, JobStatus
from core.tasks.task import Task

logger = get_logger(__name__)

TRY_AGAIN_SECONDS = 1.0


class Executor:
    """Runs messages as jobs.

    Args:
        queue: Where their records are.
        tasks: The registered tasks by name.
        max_retries: For tasks that do not say.
        timeout: Seconds, for tasks that do not say.
        record_ttl: Seconds for which the record of an ended job is kept.
    """

    def __init__(
        self,
        queue: Queue,
        tasks: Mapping[str, Task[..., Any]],
        *,
        max_retries: int,
        timeout: float,
        record_ttl: float,
    ) -> None:
        self._queue = queue
        self._records = queue.engine.records
        self._tasks = tasks
        self._max_retries = max_retries
        self._timeout = timeout
        self._record_ttl = record_ttl
        self._running: set[str] = set()

    async def execute(self, job_id: str, body: bytes) -> Outcome:
        """Run one message. It never raises; only a cancellation passes through it."""
        try:
            return await self._execute(job_id, body)
        except QueueUnavailable as error:
            logger.warning("queue is down, the job will run again", job_id=job_id, error=str(error))
        except Exception:
            # A fault of this machinery, not of the job, which is therefore kept.
            logger.exception("job could not be run, it will run again", job_id=job_id)
        return Retry(TRY_AGAIN_SECONDS)

    async def _execute(self, job_id: str, body: bytes) -> Outcome:
        if job_id in self._running:
            # Its queue took this worker for dead after an outage, and delivers the job once more.
            return Retry(TRY_AGAIN_SECONDS)
        record = await self._records.begin(job_id)
        if JobStatus(record["state"]).is_final:
            return Success()  # delivered once more after it had ended
        self._running.add(job_id)
        try:
            return await self._run(job_id, body, int(record.get("attempt", 1)))
        finally:
            self._running.discard(job_id)

    async def _run(self, job_id: str, body: bytes, attempt: int) -> Outcome:
        try:
            message = self._queue.signer.load(body)
            if message.id != job_id:
                raise BadMessage(f"it is the message of job {message.id}")
        except BadMessage as error:
            logger.error("message refused", job_id=job_id, error=str(error))
            return await self._finish(job_id, _failure(error), Dead(str(error)))
        current = CurrentJob(job_id, attempt, message.correlation_id)
        token = _current.set(current)
        bound = structlog.contextvars.bound_contextvars(job_id=job_id, task=message.task, attempt=attempt)
        try:
            with TaskContext.use(message.correlation_id, message.owner), bound:
                return await self._attempt(message, attempt)
        finally:
            _current.reset(token)

    async def _attempt(self, message: Message, attempt: int) -> Outcome:
        task = self._tasks.get(message.task)
        started = time.perf_counter()
        try:
            if task is None:
                raise PermanentError(f"no task named {message.task} is registered; is its module imported?")
            call = task.arguments.load(message.arguments)
            async with asyncio.timeout(task.options.timeout or self._timeout):
                value = await task(*call.args, **call.kwargs)
            result = _as_json(message.task, value)
        except (KeyboardInterrupt, GeneratorExit):
            raise
        except BaseException as error:
            # A job may raise CancelledError or SystemExit by itself, and must then fail as with any other error.
            if isinstance(error, asyncio.CancelledError) and _is_being_cancelled():
                await self._put_back(message.id)
                raise
            seconds = round(time.perf_counter() - started, 4)
            return await self._fail(message, task, attempt, error, seconds)
        logger.info("job completed", seconds=round(time.perf_counter() - started, 4))
        return await self._finish(message.id, {"state": JobStatus.COMPLETED, "result": result}, Success())

    async def _fail(
        self, message: Message, task: Task[..., Any] | None, attempt: int, error: BaseException, seconds: float
    ) -> Outcome:
        retries = task.options.max_retries if task else 0
        if retries is None:
            retries = self._max_retries
        summary = f"{type(error).__name__}: {_text(error)}"
        if task is None or isinstance(error, PermanentError | InvalidArguments) or attempt > retries:
            logger.error("job failed", seconds=seconds, error=summary, exc_info=error)
            return await self._finish(message.id, _failure(error), Dead(summary))
        delay = _backoff(attempt, task.options.retry_delay, task.options.retry_max_delay)
        logger.warning("attempt failed, will retry", seconds=seconds, error=summary, retry_in=round(delay, 1))
        fields = {"state": JobStatus.SCHEDULED, "at": time.time() + delay, "attempt": attempt + 1}
        await self._records.write(message.id, fields, None)
        return Retry(delay)

    async def _put_back(self, job_id: str) -> None:
        """The worker stops before the job has ended; the queue delivers it again."""
        with anyio.CancelScope(shield=True), suppress(QueueUnavailable):
            await self._records.write(job_id, {"state": JobStatus.PENDING}, None)

    async def _finish(self, job_id: str, fields: Fields, outcome: Outcome) -> Outcome:
        await self._records.write(job_id, fields, self._record_ttl)
        return outcome


def _as_json(task: str, value: Any) -> Any:
    try:
        return to_jsonable_python(value)
    except Exception as error:
        reason = str(error).splitlines()[0]
        raise PermanentError(f"task {task} returned what cannot be kept as JSON: {reason}") from None


def _is_being_cancelled() -> bool:
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0


def _text(error: BaseException) -> str:
    try:
        return str(error)
    except Exception:
        return "(its text cannot be read)"


def _failure(error: BaseException) -> Fields:
    details = {
        "type": type(error).__name__,
        "message": _text(error),
        "traceback": "".join(traceback.format_exception(error)),
    }
    return {"state": JobStatus.FAILED, "error": details}


def _backoff(attempt: int, delay: float, max_delay: float) -> float:
    """Seconds until the next attempt: capped exponential backoff with full jitter.

    The rule is "full jitter" of the AWS Architecture Blog, "Exponential Backoff And Jitter" (2015).
    """
    return random.uniform(0, min(max_delay, delay * 2 ** min(attempt - 1, 32)))

"""The one path on which every job runs, with any engine."""

import asyncio
import random
import time
from collections.abc import Callable, Mapping
from itertools import islice
from typing import TYPE_CHECKING, Any

import structlog
from pydantic_core import from_json, to_json

from core.config import Settings
from core.context import TaskContext
from core.logging import get_logger, mask_texts, start_masking
from core.tasks import metrics
from core.tasks.arguments import PythonArguments
from core.tasks.chain import make_next, stop_rest, stop_rest_unverified
from core.tasks.current import CurrentJob, running_job
from core.tasks.engine import Delivery
from core.tasks.errors import (
    BadMessage,
    JobExpired,
    PermanentError,
    QueueUnavailable,
    describe_error,
)
from core.tasks.limits import find_slots
from core.tasks.message import Message, PlainArguments
from core.tasks.options import TaskOptions
from core.tasks.outcome import Ended, Envelope, Outcome, Retry
from core.tasks.queue import Queue
from core.tasks.records import JobRecord, JobStatus, RecordFields
from core.tasks.sensitive import find_texts
from core.tasks.settle import Run, Settler
from core.tasks.task import AnyTask
from core.tasks.time_limits import LimitedCall, Reason
from core.traces import is_on, start_job_span

if TYPE_CHECKING:
    from core.traces.spans import JobSpan

logger = get_logger(__name__)

REDELIVERY_SECONDS = 1.0
UNKNOWN_SECONDS = 5.0
SUSPECT_SECONDS = (1.0, 3.0)
"""The shortest and the longest delay of a job while a suspect runs alone."""
HOLD_SECONDS = 1.0
"""How long a job that was taken waits for a suspect to end."""
ALONE_SECONDS = 30.0
"""How long a suspect waits for the other jobs to end, and how long they then wait for it."""
MAX_BLOCKED = 2
POLL_SECONDS = 0.05
SLOT_SECONDS = (30.0, 600.0)
"""The shortest and the longest time after which a job looks for a slot by itself."""


class Executor:
    """Runs messages as jobs.

    Each of these methods calls the next one: `execute`, `_admit`, `_verify`, `_attempt`,
    `_call_task`.

    Args:
        queue: The queue, with the keys for its messages.
        tasks: The tasks of this process, by name.
        settings: The service's settings, for tasks that set no options.
        settler: Decides how each run ended.

    Attributes:
        taken_at: When the last message was taken, by `time.monotonic`.
        begun: The number of jobs that have begun.
    """

    def __init__(
        self,
        queue: Queue,
        tasks: Mapping[str, AnyTask],
        settings: Settings,
        settler: Settler,
    ) -> None:
        self.taken_at = time.monotonic()
        self.begun = 0
        self._queue = queue
        self._records = queue.engine.records
        self._tasks = tasks
        self._settings = settings
        self._settler = settler
        self._running: dict[str, LimitedCall[Outcome] | None] = {}
        self._runs: dict[str, Run] = {}
        metrics.RUNNING.set_function(lambda: self.running)
        self._suspect = asyncio.Lock()
        self._alone_until = 0.0

    @property
    def running(self) -> int:
        """The number of jobs that are running."""
        return len(self._running)

    @property
    def task_names(self) -> list[str]:
        """The names of the tasks of this process."""
        return sorted(self._tasks)

    def list_runs(self, limit: int) -> list[Run]:
        """Return the running attempts, oldest first.

        Args:
            limit: The largest number of attempts to return.
        """
        return list(islice(self._runs.values(), limit))

    async def execute(self, delivery: Delivery) -> Outcome:
        """Run one message. It raises no exception: if it is cancelled, the job is put back.

        Args:
            delivery: The message.
        """
        self.taken_at = time.monotonic()
        job_id = delivery.id
        try:
            return await self._admit(delivery)
        except asyncio.CancelledError:
            return _put_back(delivery, 0, deliveries=0)
        except QueueUnavailable as error:
            reason = str(error)
            problem = "queue is down, the job will run again"
            logger.warning(problem, job_id=job_id, error=reason)
        except Exception:
            # The fault is not in the job but in this code, so the job is kept.
            logger.exception("job could not be run, it will run again", job_id=job_id)
        return _put_back(delivery, REDELIVERY_SECONDS)

    async def cancel_aborted(self) -> None:
        """Cancel the running jobs whose records say that somebody aborted them."""
        ids = list(self._running)
        if not ids:
            return
        records = await self._records.read(ids)
        for job_id, record in zip(ids, records, strict=True):
            running = self._running.get(job_id)
            if record.abort and running and running.reason is None:
                running.cancel(Reason.ABORT)

    def find_blocking(self, loop: asyncio.AbstractEventLoop) -> str | None:
        """Return the id of the job that an event loop is executing now. Any thread may call this.

        Args:
            loop: The event loop.
        """
        current = asyncio.current_task(loop)
        running = self._running.copy()
        for job_id, call in running.items():
            if call and call.task is current:
                return job_id
        # It may be an asyncio task that a job made.
        return next(iter(running)) if len(running) == 1 else None

    async def _admit(self, delivery: Delivery) -> Outcome:
        """Refuse a second run of a running job, and let a suspect run alone."""
        job_id, record = delivery.id, delivery.record
        if not self.may_begin() and not await _poll(self.may_begin, HOLD_SECONDS):
            return _put_off(delivery)
        if record.state.is_final:
            return await self._end_again(delivery)
        if job_id in self._running:
            # Another worker had the job in between, or the server has lost its last changes.
            return _put_back(delivery, REDELIVERY_SECONDS, record.deliveries - 1)
        self._running[job_id] = None
        self.begun += 1
        try:
            if not delivery.is_suspect:
                return await self._verify(delivery)
            if self._suspect.locked():
                return _put_off(delivery)
            async with self._suspect:
                return await self._run_alone(delivery)
        finally:
            del self._running[job_id]
            self._runs.pop(job_id, None)

    async def _run_alone(self, delivery: Delivery) -> Outcome:
        """Run a suspect: it blocked an event loop, or its worker ended several times.

        If the suspect is innocent, it completes. Otherwise it harms no other job. Both waits have a
        limit, because a long job must not stop a worker.
        """
        self._alone_until = time.monotonic() + ALONE_SECONDS
        await _poll(lambda: len(self._running) == 1, ALONE_SECONDS)
        await asyncio.sleep(POLL_SECONDS)  # the engine records how the others ended
        self._alone_until = time.monotonic() + ALONE_SECONDS
        fence = delivery.record.fence
        record = await self._records.begin(delivery.id, fence)
        is_ours = record.fence == fence + 1 and record.worker == self._queue.engine.name
        if not is_ours and not record.state.is_final:
            return Retry(0)  # another worker has the job, so the engine drops this outcome
        delivery.record = record
        if record.state.is_final:
            return await self._end_again(delivery)
        delivery.is_begun = True
        return await self._verify(delivery)

    def may_begin(self) -> bool:
        """Return whether a further message may begin now. None may while a suspect runs alone."""
        return not self._suspect.locked() or time.monotonic() > self._alone_until

    async def _end_again(self, delivery: Delivery) -> Ended:
        """End a job that has ended already, for example because somebody aborted it."""
        queue, ttl, status = self._queue, self._queue.record_ttl, delivery.record.state
        if status is JobStatus.COMPLETED:
            return Ended({}, ttl)
        job_id, body = delivery.id, delivery.body
        try:
            stopped = stop_rest(queue, queue.unseal(job_id, body), status)
        except BadMessage:
            stopped = await stop_rest_unverified(queue, job_id, body, status)
        return Ended({}, ttl, stopped=stopped)

    async def _verify(self, delivery: Delivery) -> Outcome:
        """Check the message's signature, and run the job within its time limits."""
        job_id, record = delivery.id, delivery.record
        try:
            message = self._queue.unseal(job_id, delivery.body)
        except BadMessage as error:
            # During a deploy, other workers may have the key or the version of this message.
            problem = "message cannot be read here, waiting for another worker"
            retry = self._wait(job_id, record, problem, error=str(error))
            return retry or await self._settler.refuse(delivery, describe_error(error))
        unknown = self._find_unknown(message)
        if unknown:
            problem = "task is not known here, waiting for a newer worker"
            retry = self._wait(job_id, record, problem, unknown=unknown)
            if retry:
                return retry
        task = self._tasks.get(message.task)
        run = Run(message, delivery.body, record, task)
        options = task.options if task else TaskOptions()
        call: LimitedCall[Outcome] = LimitedCall(*options.time_limits(self._settings.task_timeout))
        self._running[job_id] = call
        self._runs[job_id] = run
        try:
            return await call.run(self._attempt(run, call, unknown))
        except TimeoutError as error:
            return call.context.run(self._settler.fail, run, error)

    async def _attempt(self, run: Run, call: LimitedCall[Outcome], unknown: str | None) -> Outcome:
        """Make one attempt, and settle how it ended."""
        self._set_context(run)
        if run.record.abort:
            return self._settler.abort(run)
        try:
            task = self._check(run, unknown)
            arguments = self._load_arguments(run.message, task)
            slots = find_slots(task.name, task.options.limit, arguments)
        except Exception as error:
            return self._settler.fail(run, error)
        if slots:
            waiting = await self._records.acquire(run.message.id, run.record.fence, slots)
            if waiting is not None:
                return _step_aside(run.record, waiting)
        if run.record.attempt == 1 and run.record.deliveries == 1:
            self._settler.note_start(run)
        try:
            result, next_stage = await self._call_task(run.message, task, arguments)
            if call.is_too_late:
                raise TimeoutError(call.problem)
        except (KeyboardInterrupt, GeneratorExit):
            raise
        except BaseException as error:
            # A task may raise CancelledError or SystemExit itself, and then fails as usual.
            if call.reason is Reason.ABORT:
                return self._settler.abort(run)
            if isinstance(error, asyncio.CancelledError):
                if call.reason is Reason.STOP:
                    if run.span:
                        run.span.end("interrupted")
                    raise
                if call.reason is Reason.TIMEOUT:
                    return self._settler.fail(run, call.late_error(error))
            return self._settler.fail(run, error)
        return self._settler.complete(run, result, next_stage)

    def _set_context(self, run: Run) -> None:
        """Set the context that the job runs in. It ends with the job's asyncio task."""
        message, record = run.message, run.record
        job_id, attempt = message.id, record.attempt
        correlation_id = message.correlation_id
        running_job.set(CurrentJob(job_id, attempt, correlation_id, self._queue, record.fence))
        TaskContext.set(correlation_id, message.owner)
        structlog.contextvars.bind_contextvars(job_id=job_id, task=message.task, attempt=attempt)
        start_masking()
        if is_on():
            run.span = _start_span(message, record)
            structlog.contextvars.bind_contextvars(trace_id=run.span.trace_id)

    async def _call_task(
        self, message: Message, task: AnyTask, arguments: PythonArguments
    ) -> tuple[Any, Envelope | None]:
        """Call the task's function.

        Returns:
            The result as plain JSON data, and the next stage of the job's chain.
        """
        args, kwargs = task.arguments.split(arguments)
        value = await task.run_as_job(*args, **kwargs)
        result = _to_json(message.task, value, self._settings.task_max_result)
        next_stage = None
        if message.rest:
            next_stage = make_next(self._queue, self._tasks, message, value)
        return result, next_stage

    def _check(self, run: Run, unknown: str | None) -> AnyTask:
        """Return the run's task, or raise the reason why the job must not run.

        Args:
            run: The run.
            unknown: The first task of the job and its chain that this process does not know.
        """
        message, record, task = run.message, run.record, run.task
        expires_at = message.expires_at
        if record.attempt == 1 and expires_at and time.time() > expires_at:
            raise JobExpired("no worker was free for it in time")
        if record.deliveries > self._settings.task_max_deliveries:
            times = record.deliveries - 1
            raise PermanentError(f"the job has ended its worker process {times} times in a row")
        if record.blocked >= MAX_BLOCKED:
            hint = "use a plain def or a process for work that blocks"
            raise PermanentError(f"the job blocked the event loop of its worker twice; {hint}")
        # A job has a record until it has ended, and for `task_record_ttl` after that. An older
        # message without one is a copy, or its record was lost.
        seconds = self._settings.task_record_ttl
        due_at = message.due_at or message.enqueued_at
        if time.time() > due_at + seconds and not self._queue.is_ours(message.id, record):
            problem = f"the job was due more than {seconds:g} s ago and has no record"
            raise PermanentError(f"{problem}; it may have run before")
        if task is None:
            hint = "is its module imported?"
            raise PermanentError(f"no task named {unknown} is registered; {hint}")
        if unknown:
            where = f"which follows {message.task} in its chain"
            raise PermanentError(f"no task named {unknown} is registered, {where}")
        return task

    def _load_arguments(self, message: Message, task: AnyTask) -> PythonArguments:
        arguments = self._decrypt(message) if message.sensitive else message.arguments
        values = task.arguments.load(arguments)
        if message.sensitive:
            # Mask the Python values too. Bytes, for example, are base64 in JSON.
            mask_texts(find_texts([values[name] for name in message.sensitive]))
        return values

    def _decrypt(self, message: Message) -> PlainArguments:
        """Return the arguments in plain text, and mask the sensitive ones in logs from now on."""
        decrypted: PlainArguments = {}
        for name in message.sensitive:
            encrypted = message.arguments[name]
            decrypted[name] = self._queue.cipher.decrypt(encrypted)
        mask_texts(find_texts(list(decrypted.values())))
        return {**message.arguments, **decrypted}

    def _find_unknown(self, message: Message) -> str | None:
        """Return the first task of a job and of its chain that this process does not know.

        A stage must not run here if the stage after it cannot be enqueued here.
        """
        names = [message.task, *message.rest]
        return next((name for name in names if name not in self._tasks), None)

    def _wait(self, job_id: str, record: JobRecord, problem: str, **details: str) -> Retry | None:
        """Postpone a job that only other workers may be able to run, as during a deploy.

        Return None when the job has waited long enough.
        """
        now = time.time()
        since = record.unknown_since or now
        if now - since >= self._settings.task_unknown_period:
            return None
        # A job may be tried every few seconds for days, so only the first try is logged.
        if record.unknown_since is None:
            logger.warning(problem, job_id=job_id, **details)
        return self._settler.retry(UNKNOWN_SECONDS, {"unknown_since": since})


def _start_span(message: Message, record: JobRecord) -> "JobSpan":
    """Start the span of a run. It links to the attempt before, or to the run that it replays."""
    attributes: dict[str, str | int] = {
        "job.id": message.id,
        "job.task": message.task,
        "job.attempt": record.attempt,
        "correlation_id": message.correlation_id,
    }
    if message.schedule:
        attributes["job.schedule"] = message.schedule
    links = [record.traceparent, message.replayed]
    return start_job_span(message.task, message.traceparent, links, attributes)


def _put_back(delivery: Delivery, after: float, deliveries: int | None = None) -> Retry:
    """Let a job run again, although this run had no outcome."""
    if not delivery.is_begun:
        return Retry(after)
    count = delivery.record.deliveries if deliveries is None else deliveries
    return Retry(after, {"state": JobStatus.PENDING, "deliveries": count})


def _put_off(delivery: Delivery) -> Retry:
    """Let a job run later, because a suspect runs alone now. The delivery does not count."""
    after = random.uniform(*SUSPECT_SECONDS)
    return _put_back(delivery, after, delivery.record.deliveries - 1)


def _step_aside(record: JobRecord, waiting: int) -> Retry:
    """Let a job wait for a slot. The delivery does not count.

    The engine starts the job when its slots are free. If no run gives a slot back, for example
    after the server lost data, the job looks itself. About ten jobs of a limit look each second.
    """
    shortest, longest = SLOT_SECONDS
    after = min(shortest + waiting / 10, longest) * random.uniform(0.5, 1)
    fields: RecordFields = {"state": JobStatus.PENDING, "deliveries": record.deliveries - 1}
    return Retry(after, fields, waits=True)


async def _poll(check: Callable[[], bool], seconds: float) -> bool:
    """Wait until a check is true, and return whether it became true in time."""
    for _ in range(round(seconds / POLL_SECONDS)):
        if check():
            return True
        await asyncio.sleep(POLL_SECONDS)
    return check()


def _to_json(task: str, value: Any, limit: int) -> Any:
    if value is None:
        return None
    try:
        dumped = to_json(value)
        result = from_json(b"[%b]" % dumped)[0]  # a record has one level more
    except Exception as error:
        reason = str(error).splitlines()[0]
        problem = f"task {task} returned a value that cannot be kept as JSON"
        raise PermanentError(f"{problem}: {reason}") from None
    size = len(dumped)
    if size > limit:
        problem = f"task {task} returned {size} bytes, more than {limit} (TASK_MAX_RESULT)"
        raise PermanentError(f"{problem}: store them in MongoDB or as a blob, and return the id")
    return result

"""Chains: tasks that run one after the other, each with the result of the one before.

No job waits for another job. The end of a stage and the start of the next one are one step.
"""

from collections.abc import Coroutine, Mapping
from functools import partial
from typing import Any, Concatenate, Generic, ParamSpec, Protocol, TypeVar
from uuid import uuid4

from core.context import TaskContext
from core.tasks.arguments import Arguments
from core.tasks.errors import BadMessage, InvalidArguments, PermanentError
from core.tasks.job import Job
from core.tasks.message import Message, PlainArguments, read_unverified
from core.tasks.outcome import Envelope
from core.tasks.portal import Portal, run_or_return, run_sync
from core.tasks.producer import Producer
from core.tasks.queue import Queue
from core.tasks.records import ErrorFields, JobStatus, RecordFields, merge

P = ParamSpec("P")
R = TypeVar("R")
R2 = TypeVar("R2")
R_co = TypeVar("R_co", covariant=True)


class Stage(Protocol[P, R_co]):
    """The parts of a task that a chain uses."""

    name: str

    @property
    def priority(self) -> str:
        """The default priority of the task's jobs."""
        ...

    @property
    def arguments(self) -> Arguments:
        """The function's parameters."""
        ...

    @property
    def queue(self) -> Queue:
        """The queue of the running service."""
        ...

    @property
    def portal(self) -> Portal:
        """The way from plain functions to the event loop of the service."""
        ...

    def message(self, job_id: str, arguments: PlainArguments, **origin: Any) -> Message:
        """Make the message of one job."""
        ...

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> Coroutine[Any, Any, R_co]: ...


class ChainJob(Generic[R]):
    """One run of a chain.

    Attributes:
        id: The run's id. The stages' jobs have their own ids.
        stages: The stages' jobs, in order.
    """

    def __init__(self, id: str, stages: list[Job[Any]]) -> None:
        self.id = id
        self.stages = stages

    async def statuses(self) -> list[JobStatus]:
        """Return each stage's status. The stages after a failed or aborted one are `aborted`."""
        return [await stage.status() for stage in self.stages]

    async def status(self) -> JobStatus:
        """Return the status of the first stage that has not completed, or `completed`."""
        return first_unfinished(await self.statuses())

    async def result(self, timeout: float | None = None) -> R:
        """Wait for the result of the last stage.

        Args:
            timeout: Seconds to wait; no limit if None.

        Raises:
            JobFailed: A stage failed or was aborted.
            TimeoutError: The chain has not ended in time. It goes on.
        """
        last = self.stages[-1]
        await last.wait(timeout)
        for stage in self.stages:
            status = await stage.status()
            if status.is_final and status is not JobStatus.COMPLETED:
                await stage.result()  # raises the error of the stage that stopped the chain
        value: R = await last.result()
        return value

    async def abort(self, timeout: float = 5) -> bool:
        """Abort the stages that have not ended.

        Args:
            timeout: Seconds to wait for the end of the running stage.

        Returns:
            Whether a stage was aborted.
        """
        # Start at the end, so that no stage can start the next one before that one is aborted.
        aborted = [await stage.abort(timeout) for stage in reversed(self.stages)]
        return any(aborted)


def first_unfinished(statuses: list[JobStatus]) -> JobStatus:
    """Return the first status that is not `completed`, or `completed`."""
    unfinished = (status for status in statuses if status is not JobStatus.COMPLETED)
    return next(unfinished, JobStatus.COMPLETED)


class Chain(Generic[P, R]):
    """Tasks in an order, made by `first | second`."""

    def __init__(self, tasks: tuple[Stage[..., Any], ...]) -> None:
        self._tasks = tasks

    def __or__(self, other: Stage[Concatenate[R, ...], R2]) -> "Chain[P, R2]":
        """Return the chain with one more stage.

        Args:
            other: The task to add. Its first argument is the result of the last stage.
        """
        if not isinstance(other, Producer):
            return NotImplemented
        return Chain((*self._tasks, other))

    @property
    def names(self) -> list[str]:
        """The tasks' names, in order."""
        return [task.name for task in self._tasks]

    def enqueue(self, *args: P.args, **kwargs: P.kwargs) -> Coroutine[Any, Any, ChainJob[R]]:
        """Queue the first stage with these arguments. The others follow with the results.

        In a plain function, it works as `Task.enqueue` does.

        Args:
            *args: The first task's positional arguments.
            **kwargs: The first task's keyword arguments.

        Raises:
            InvalidArguments: An argument of the first stage does not fit.
            QueueUnavailable: The queue's server cannot be reached, or did not answer.
        """
        return run_or_return(self._tasks[0], partial(self._enqueue, *args, **kwargs))

    delay = enqueue
    """Another name for `enqueue`."""

    def enqueue_sync(self, *args: P.args, **kwargs: P.kwargs) -> ChainJob[R]:
        """Queue the chain from a plain function, as `Task.enqueue_sync` does.

        Args:
            *args: The first task's positional arguments.
            **kwargs: The first task's keyword arguments.

        Raises:
            InvalidArguments: An argument of the first stage does not fit.
            QueueUnavailable: The queue's server cannot be reached, or did not answer.
            RuntimeError: An event loop runs in this thread, or the service is closing.
        """
        return run_sync(self._tasks[0], partial(self._enqueue, *args, **kwargs))

    async def _enqueue(self, *args: P.args, **kwargs: P.kwargs) -> ChainJob[R]:
        first = self._tasks[0]
        chain = uuid4().hex
        with TaskContext.use():
            arguments = first.arguments.dump(args, kwargs, first.queue.max_arguments)
            job_id = stage_id(chain, 0)
            message = first.message(job_id, arguments, chain=chain, rest=self.names[1:])
        queue = first.queue
        following: dict[str, RecordFields] = {}
        for later_id, name in _later_stages(message).items():
            signed = queue.sign_record(later_id, name, message.owner)
            following[later_id] = {"state": JobStatus.PENDING, **signed}
        envelope = queue.seal(message, None, first.priority, following)
        await queue.send([envelope])
        return self.job(chain)

    def job(self, chain_id: str) -> ChainJob[R]:
        """Return a handle on one run of this chain.

        Args:
            chain_id: The run's id.
        """
        stages: list[Job[Any]] = []
        for number, task in enumerate(self._tasks):
            job_id = stage_id(chain_id, number)
            job = Job(job_id, task.queue, task.arguments.load_result)
            stages.append(job)
        return ChainJob(chain_id, stages)


def stage_id(chain: str, stage: int) -> str:
    """Return the id of a stage's job. The id never changes, so a stage is enqueued once."""
    return f"{chain}:{stage}"


def make_next(
    queue: Queue,
    tasks: Mapping[str, Stage[..., Any]],
    message: Message,
    value: Any,
) -> Envelope:
    """Return the message of the stage after a completed one, with its record.

    Args:
        queue: The queue.
        tasks: The tasks of this process, by name. The next one is among them.
        message: The completed stage's message.
        value: The completed stage's result.

    Raises:
        PermanentError: The result does not fit the next task.
    """
    assert message.chain
    name, *rest = message.rest
    task = tasks[name]
    try:
        arguments = task.arguments.dump((value,), {}, queue.max_arguments)
    except InvalidArguments as error:
        problem = f"the result of {message.task} does not fit the next stage"
        raise PermanentError(f"{problem}: {error}") from None
    stage = message.stage + 1
    following = task.message(
        stage_id(message.chain, stage),
        arguments,
        chain=message.chain,
        stage=stage,
        rest=rest,
    )
    return queue.seal(following, None, task.priority)


def stop_rest(queue: Queue, message: Message, status: JobStatus) -> dict[str, RecordFields]:
    """Return the records of the stages after one that did not complete, by job id.

    Args:
        queue: The queue.
        message: The message of the stage that did not complete.
        status: The status of that stage.
    """
    fields = _stopped_fields(message, status)
    return {
        job_id: {**fields, **queue.sign_record(job_id, name, message.owner)}
        for job_id, name in _later_stages(message).items()
    }


async def stop_rest_unverified(
    queue: Queue, job_id: str, body: bytes, status: JobStatus
) -> dict[str, RecordFields]:
    """Return the records of the stages after one whose message is refused, by job id.

    The message may be forged, so nothing is signed: each record keeps its owner and signature. A
    message that cannot be read names no stages.

    Args:
        queue: The queue.
        job_id: The id of the job whose message is refused.
        body: The message's bytes.
        status: The status of that job.
    """
    try:
        message = read_unverified(job_id, body)
        ids = list(_later_stages(message))
        fields = _stopped_fields(message, status)
    except (BadMessage, ValueError):  # the number of a stage may have thousands of digits
        return {}
    records = zip(ids, await queue.engine.records.read(ids), strict=True)
    waiting = [(later, record) for later, record in records if record.state is JobStatus.PENDING]
    return {later: merge(record, fields) for later, record in waiting}


def _stopped_fields(message: Message, status: JobStatus) -> RecordFields:
    why = "failed" if status is JobStatus.FAILED else "was aborted"
    problem = f"stage {message.stage} ({message.task}) {why}"
    error: ErrorFields = {"type": "ChainStopped", "message": problem, "traceback": ""}
    return {"state": JobStatus.ABORTED, "error": error}


def _later_stages(message: Message) -> dict[str, str]:
    """Return the names of the tasks after a stage, by the id of their jobs."""
    if message.chain is None:
        return {}
    later = enumerate(message.rest, start=message.stage + 1)
    return {stage_id(message.chain, number): name for number, name in later}

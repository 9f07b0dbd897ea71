"""Chains: tasks that run one after the other, each with the result of the one before. No worker waits for another."""

from collections.abc import Coroutine, Mapping
from typing import Any, Concatenate, Generic, ParamSpec, Protocol, TypeVar
from uuid import uuid4

from core.context import TaskContext
from core.tasks.arguments import Arguments
from core.tasks.errors import InvalidArguments, PermanentError
from core.tasks.job import Job
from core.tasks.message import Message
from core.tasks.queue import Queue
from core.tasks.records import Fields, JobStatus

P = ParamSpec("P")
R = TypeVar("R")
R2 = TypeVar("R2")
R_co = TypeVar("R_co", covariant=True)


class Stage(Protocol[P, R_co]):
    """What a chain needs of a task."""

    name: str

    @property
    def priority(self) -> str: ...

    @property
    def arguments(self) -> Arguments: ...

    @property
    def queue(self) -> Queue: ...

    def message(self, job_id: str, arguments: dict[str, Any], **stage: Any) -> Message: ...

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> Coroutine[Any, Any, R_co]: ...


class ChainJob(Generic[R]):
    """One run of a chain.

    Attributes:
        id: Its id; the stages' jobs have ids of their own.
        stages: The jobs, in their order.
    """

    def __init__(self, id: str, stages: list[Job[Any]]) -> None:
        self.id = id
        self.stages = stages

    async def statuses(self) -> list[JobStatus]:
        """Where each stage stands. After one that failed or was aborted the rest is `aborted`."""
        return [await stage.status() for stage in self.stages]

    async def status(self) -> JobStatus:
        """Where the chain stands: what stopped it, or where its present stage stands."""
        unfinished = [status for status in await self.statuses() if status is not JobStatus.COMPLETED]
        return unfinished[0] if unfinished else JobStatus.COMPLETED

    async def result(self, timeout: float | None = None) -> R:
        """Wait for the result of the last stage.

        Args:
            timeout: Seconds to wait; for ever where None.

        Raises:
            JobFailed: Of the stage that failed or was aborted.
            TimeoutError: It has not ended in time; it goes on.
        """
        last = self.stages[-1]
        await last.wait(timeout)
        for stage in self.stages:
            if await stage.status() is JobStatus.FAILED:
                await stage.result()
        value: R = await last.result()
        return value

    async def abort(self, timeout: float = 5) -> bool:
        """Abort what has not ended.

        Args:
            timeout: Seconds to wait for the stage that runs.

        Returns:
            Whether the chain was stopped by this.
        """
        # From the end, so that no stage starts another one meanwhile.
        return any([await stage.abort(timeout) for stage in reversed(self.stages)])


class Chain(Generic[P, R]):
    """Tasks in an order, made by `first | second`."""

    def __init__(self, tasks: tuple[Stage[..., Any], ...]) -> None:
        self._tasks = tasks

    def __or__(self, other: Stage[Concatenate[R, ...], R2]) -> "Chain[P, R2]":
        """Return the chain with one more stage.

        Args:
            other: The task of the last stage. Its first argument is the result of the stage before.
        """
        return Chain((*self._tasks, other))

    async def enqueue(self, *args: P.args, **kwargs: P.kwargs) -> ChainJob[R]:
        """Queue the first stage with these arguments; the others follow with the results.

        Raises:
            InvalidArguments: An argument of the first stage does not fit.
            QueueUnavailable: The queue's server cannot be reached, or did not answer.
        """
        first, *others = self._tasks
        queue = first.queue
        chain = uuid4().hex
        with TaskContext.use():
            arguments, rest = first.arguments.dump(args, kwargs), [task.name for task in others]
            message = first.message(stage_id(chain, 0), arguments, chain=chain, rest=rest)
        following: dict[str, Fields] = {
            stage_id(chain, number): {"state": JobStatus.PENDING, "task": name, "owner": message.owner}
            for number, name in enumerate(rest, start=1)
        }
        await queue.publish([queue.delivery(message, None, first.priority, following)], [])
        return self.job(chain)

    def job(self, chain_id: str) -> ChainJob[R]:
        """A handle on one run of this chain, from its id alone.

        Args:
            chain_id: The run's id, `ChainJob.id`.
        """
        queue = self._tasks[0].queue
        stages = [Job(stage_id(chain_id, at), queue, task.arguments.load_result) for at, task in enumerate(self._tasks)]
        return ChainJob(chain_id, stages)

    @property
    def names(self) -> list[str]:
        """The tasks' names, in their order."""
        return [task.name for task in self._tasks]


def stage_id(chain: str, stage: int) -> str:
    """The id of a stage's job, by which it is enqueued once."""
    return f"{chain}:{stage}"


async def publish_next(queue: Queue, tasks: Mapping[str, Stage[..., Any]], message: Message, value: Any) -> None:
    """Enqueue the stage that follows, with the result of this one.

    Raises:
        PermanentError: This process does not know its task, or the result does not fit it.
    """
    name, *rest = message.rest
    if (task := tasks.get(name)) is None:
        raise PermanentError(f"no task named {name} is registered, which follows {message.task} in its chain")
    try:
        arguments = task.arguments.dump((value,), {})
    except InvalidArguments as error:
        raise PermanentError(f"the result of {message.task} does not fit the next stage: {error}") from None
    assert message.chain
    stage = message.stage + 1
    following = task.message(stage_id(message.chain, stage), arguments, chain=message.chain, stage=stage, rest=rest)
    await queue.publish([queue.delivery(following, None, task.priority)], [following.id])


async def stop_rest(queue: Queue, message: Message, why: str, ttl: float) -> None:
    """Mark the stages that will not run, because this one did not complete.

    Args:
        queue: Where their records are.
        message: The stage that did not complete.
        why: What happened to it: `failed` or `was aborted`.
        ttl: Seconds for which the records are kept.
    """
    error = {"type": "ChainStopped", "message": f"stage {message.stage} ({message.task}) {why}"}
    for number, _ in enumerate(message.rest, start=message.stage + 1):
        assert message.chain
        fields = {"state": JobStatus.ABORTED, "error": error}
        await queue.engine.records.write(stage_id(message.chain, number), fields, ttl)

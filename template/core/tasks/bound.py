"""A task with a choice of when and how its next job runs."""

from abc import ABC, abstractmethod
from collections.abc import Coroutine
from datetime import datetime, timedelta
from functools import partial
from typing import Any, Generic, ParamSpec, TypeVar

from core.tasks.job import Job
from core.tasks.options import Call
from core.tasks.portal import run_or_return, run_sync
from core.tasks.producer import Producer

P = ParamSpec("P")
R = TypeVar("R")


class Bindable(ABC, Generic[P, R]):
    """The base of `Task` and `BoundTask`."""

    @abstractmethod
    def _bind(self) -> "BoundTask[P, R]": ...

    def using(
        self,
        *,
        run_at: datetime | None = None,
        delay: float | timedelta | None = None,
        priority: str | None = None,
        job_id: str | None = None,
    ) -> "BoundTask[P, R]":
        """Choose how the next job is enqueued. Further calls add to the earlier ones.

        Args:
            run_at: When the job is due. A time without a zone is local.
            delay: How long to wait until the job is due, in seconds if it is a number.
            priority: `low`, `normal` or `high`, instead of the task's priority.
            job_id: An id that you choose. A job with this id runs once for as long as its record
                is kept.

        Raises:
            InvalidArguments: Both `run_at` and `delay` are given, the priority is unknown, or the
                `job_id` contains characters other than letters, digits and `_.:@-`.
        """
        bound = self._bind()
        call = bound.call.change(run_at, delay, priority, job_id)
        return BoundTask(bound.task, call)


class BoundTask(Bindable[P, R]):
    """A task, and how its next job is enqueued. `Task.using` returns one.

    Attributes:
        task: The task.
        call: How the next job is enqueued.
    """

    def __init__(self, task: Producer[R], call: Call) -> None:
        self.task = task
        self.call = call

    def enqueue(self, *args: P.args, **kwargs: P.kwargs) -> Coroutine[Any, Any, Job[R]]:
        """Queue a job, as `Task.enqueue` does.

        Args:
            *args: The function's positional arguments.
            **kwargs: The function's keyword arguments.

        Raises:
            InvalidArguments: An argument does not fit; the message names the parameter.
            QueueUnavailable: The queue's server cannot be reached, or did not answer.
        """
        return run_or_return(self.task, partial(self._enqueue, *args, **kwargs))

    delay = enqueue
    """Another name for `enqueue`."""

    def enqueue_sync(self, *args: P.args, **kwargs: P.kwargs) -> Job[R]:
        """Queue a job from a plain function, as `Task.enqueue_sync` does.

        Args:
            *args: The function's positional arguments.
            **kwargs: The function's keyword arguments.

        Raises:
            InvalidArguments: An argument does not fit; the message names the parameter.
            QueueUnavailable: The queue's server cannot be reached, or did not answer.
            RuntimeError: An event loop runs in this thread, or the service is closing.
        """
        return run_sync(self.task, partial(self._enqueue, *args, **kwargs))

    async def _enqueue(self, *args: P.args, **kwargs: P.kwargs) -> Job[R]:
        return await self.task.submit(self.call, *args, **kwargs)

    def _bind(self) -> "BoundTask[P, R]":
        return self

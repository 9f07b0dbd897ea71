"""How a task's jobs run, and how one job is enqueued."""

import re
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from core.tasks.engine import PRIORITIES
from core.tasks.errors import InvalidArguments

_JOB_ID = re.compile(r"[\w.:@-]{1,200}", re.ASCII)


@dataclass(frozen=True, slots=True)
class TaskOptions:
    """How a task's jobs run. An option that is None comes from the settings (`TASK_...`).

    Attributes:
        max_retries: How often a failed job is retried.
        retry_delay: The longest delay before the first retry, in seconds. It doubles with each
            retry.
        retry_max_delay: The limit of that doubling, in seconds.
        timeout: The longest time that one attempt may take, in seconds.
        priority: `low`, `normal` or `high`.
        expires: Seconds after a job is due. A job that has not started by then fails.
        unique: Whether jobs with the same arguments are one job until it has ended. Enqueueing a
            second one returns the first. In a MongoDB transaction each job is separate.
        idempotency_key: Makes a key from the arguments. Jobs with the same key are one job, for as
            long as its record is kept.
    """

    max_retries: int | None = None
    retry_delay: float = 10
    retry_max_delay: float = 3600
    timeout: float | None = None
    priority: str = "normal"
    expires: float | None = None
    unique: bool = False
    idempotency_key: Callable[..., object] | None = None


@dataclass(frozen=True, slots=True)
class Call:
    """How one job is enqueued.

    Attributes:
        task: The task's name, for error messages.
        at: When the job is due, in seconds since 1970; at once if None.
        priority: The job's priority; the task's if None.
        job_id: The job's id; a random one if None.
        schedule: The id of the schedule that enqueues the job, or None.
    """

    task: str
    at: float | None = None
    priority: str | None = None
    job_id: str | None = None
    schedule: str | None = None

    def with_time(self, run_at: datetime | None, delay: float | timedelta | None) -> "Call":
        """Return this call with another time; the same call if neither time is given.

        Args:
            run_at: When the job is due. A time without a zone is local.
            delay: How long to wait, in seconds if it is a number.

        Raises:
            InvalidArguments: Both are given, or `run_at` is not a datetime.
        """
        if run_at is not None and delay is not None:
            raise InvalidArguments(f"task {self.task}: give run_at or delay, not both")
        if run_at is not None:
            if not isinstance(run_at, datetime):
                problem = f"run_at and scheduled_at take a datetime, not {run_at!r}"
                raise InvalidArguments(f"task {self.task}: {problem}")
            return replace(self, at=run_at.timestamp())
        if delay is not None:
            seconds = delay.total_seconds() if isinstance(delay, timedelta) else delay
            return replace(self, at=time.time() + seconds)
        return self

    def with_priority(self, priority: str | None) -> "Call":
        """Return this call with another priority; the same call if it is None.

        Args:
            priority: One of `PRIORITIES`, or None.

        Raises:
            InvalidArguments: There is no such priority.
        """
        if priority is None:
            return self
        check_priority(self.task, priority)
        return replace(self, priority=priority)

    def with_job_id(self, job_id: str | None) -> "Call":
        """Return this call with another job id; the same call if it is None.

        Args:
            job_id: The id, or None.

        Raises:
            InvalidArguments: The id has other characters than letters, digits and `_.:@-`.
        """
        if job_id is None:
            return self
        if not _JOB_ID.fullmatch(job_id):
            problem = f"job_id takes up to 200 letters, digits and _.:@-, not {job_id!r}"
            raise InvalidArguments(f"task {self.task}: {problem}")
        return replace(self, job_id=job_id)


def check_priority(task: str, priority: str) -> None:
    """Check a priority.

    Args:
        task: The task's name, for the message.
        priority: The priority.

    Raises:
        InvalidArguments: There is no such priority.
    """
    if priority not in PRIORITIES:
        known = ", ".join(PRIORITIES)
        raise InvalidArguments(f"task {task}: priority is one of {known}, not {priority!r}")

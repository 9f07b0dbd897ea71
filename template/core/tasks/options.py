"""How a task's jobs run, and how one job is enqueued."""

import re
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields, replace
from datetime import datetime, timedelta
from difflib import get_close_matches
from typing import Annotated, Any

import pydantic
from pydantic import ConfigDict, Field, InstanceOf, ValidationError
from pydantic_core import ErrorDetails

from core.tasks.engine import PRIORITIES
from core.tasks.errors import InvalidArguments, InvalidTask, is_delay
from core.tasks.limits import Limit

# A path of a URL cannot end with `.` or `..`.
_JOB_ID = re.compile(r"(?!\.\.?$)[\w.:@-]{1,200}", re.ASCII)

_CONFIG = ConfigDict(extra="forbid", strict=True)
_NOT_NEGATIVE = Field(ge=0, allow_inf_nan=False)
_POSITIVE = Field(gt=0, allow_inf_nan=False)


@pydantic.dataclasses.dataclass(frozen=True, slots=True, config=_CONFIG)
class TaskOptions:
    """How a task's jobs run. An option that is None comes from the settings (`TASK_...`).

    Attributes:
        max_retries: The largest number of retries.
        retry_delay: The longest delay before the first retry, in seconds. It doubles with each
            retry.
        retry_max_delay: The limit of that doubling, in seconds.
        jitter: Whether a delay is random, from 0 to its longest, so that jobs which failed together
            are not retried together. If not, each delay is the longest.
        timeout: Seconds after which an attempt is cancelled. It has then failed, unless
            `time_limit` leaves it more time to end.
        soft_time_limit: Another name for `timeout`.
        time_limit: Seconds after which an attempt has failed, whatever its function does.
        process: Whether a plain function runs in a child process, which is killed after `timeout`.
        memory_limit: Bytes that the function may take in its child process.
        priority: `low`, `normal` or `high`.
        expires: Seconds within which a job must start once it is due. Otherwise the job fails.
        unique: Whether jobs with the same arguments are one job until that job has ended. A second
            `enqueue` returns the first job. In a MongoDB transaction each job is separate.
        idempotency_key: Makes a key from the arguments. Jobs with the same key are one job for as
            long as its record is kept.
        limit: How many of the jobs run at once, in all workers together. A job that needs a slot of
            several limits takes all of them, or none.
    """

    max_retries: Annotated[int | None, Field(ge=0)] = None
    retry_delay: Annotated[float, _NOT_NEGATIVE] = 10
    retry_max_delay: Annotated[float, _NOT_NEGATIVE] = 3600
    jitter: bool = True
    timeout: Annotated[float | None, _POSITIVE] = None
    soft_time_limit: Annotated[float | None, _POSITIVE] = None
    time_limit: Annotated[float | None, _POSITIVE] = None
    process: bool = False
    memory_limit: Annotated[int | None, Field(gt=0)] = None
    priority: str = "normal"
    expires: Annotated[float | None, _POSITIVE] = None
    unique: bool = False
    idempotency_key: Callable[..., object] | None = None
    limit: InstanceOf[Limit] | Sequence[InstanceOf[Limit]] = ()

    def time_limits(self, default: float) -> tuple[float, float]:
        """Return the two limits in seconds: when an attempt is cancelled, and when it has failed.

        Args:
            default: The seconds for a task that sets no limit.
        """
        soft = self.timeout or self.soft_time_limit or self.time_limit or default
        return soft, self.time_limit or soft

    def find_conflict(self) -> str | None:
        """Return why these options exclude each other, or None."""
        soft, hard = self.time_limits(1)
        if self.timeout and self.soft_time_limit:
            return "timeout and soft_time_limit are the same option; give one of them"
        if hard < soft:
            return f"time_limit={hard:g} is shorter than the soft limit, which is {soft:g}"
        if self.memory_limit and not self.process:
            return "memory_limit needs process=True"
        return None


def make_options(task: str, given: dict[str, Any]) -> TaskOptions:
    """Make the options of a task.

    Args:
        task: The task's name, for the message.
        given: The options as they were given, by name.

    Raises:
        InvalidTask: There is no such option, or it does not take this value.
    """
    try:
        options = TaskOptions(**given)
        problem = options.find_conflict()
    except ValidationError as error:
        problem = _describe(error.errors()[0])
    if problem:
        raise InvalidTask(f"task {task}: {problem}")
    return options


def _describe(detail: ErrorDetails) -> str:
    name = str(detail["loc"][0])
    if detail["type"] != "unexpected_keyword_argument":
        return f"{name}={detail['input']!r}: {detail['msg']}"
    known = ["name", *(field.name for field in fields(TaskOptions))]
    nearest = get_close_matches(name, known, n=1)
    if nearest:
        return f"there is no option {name}; did you mean {nearest[0]}?"
    return f"there is no option {name}; the options are {', '.join(known)}"


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

    def change(
        self,
        run_at: datetime | None,
        delay: float | timedelta | None,
        priority: str | None,
        job_id: str | None,
    ) -> "Call":
        """Return this call with other values. A value that is None changes nothing.

        Args:
            run_at: When the job is due. A time without a zone is local.
            delay: How long to wait until the job is due, in seconds if it is a number.
            priority: One of `PRIORITIES`.
            job_id: The job's id.

        Raises:
            InvalidArguments: Both `run_at` and `delay` are given, or a value is not valid.
        """
        changes: dict[str, Any] = {}
        if run_at is not None or delay is not None:
            changes["at"] = self._due_at(run_at, delay)
        if priority is not None:
            check_priority(self.task, priority)
            changes["priority"] = priority
        if job_id is not None:
            if not _JOB_ID.fullmatch(job_id):
                problem = f"job_id takes up to 200 letters, digits and _.:@-, not {job_id!r}"
                raise InvalidArguments(f"task {self.task}: {problem}")
            changes["job_id"] = job_id
        return replace(self, **changes)

    def _due_at(self, run_at: datetime | None, delay: float | timedelta | None) -> float:
        if delay is None:
            if not isinstance(run_at, datetime):
                problem = f"run_at and scheduled_at take a datetime, not {run_at!r}"
                raise InvalidArguments(f"task {self.task}: {problem}")
            return run_at.timestamp()
        if run_at is not None:
            raise InvalidArguments(f"task {self.task}: give run_at or delay, not both")
        if isinstance(delay, timedelta):
            delay = delay.total_seconds()
        if not is_delay(delay):
            problem = f"delay takes seconds or a timedelta, not {delay!r}"
            raise InvalidArguments(f"task {self.task}: {problem}")
        return time.time() + delay


def check_priority(task: str, priority: str) -> None:
    """Raise an error unless the priority is known.

    Args:
        task: The task's name, for the message.
        priority: The priority.

    Raises:
        InvalidArguments: There is no such priority.
    """
    if priority not in PRIORITIES:
        known = ", ".join(PRIORITIES)
        raise InvalidArguments(f"task {task}: priority is one of {known}, not {priority!r}")

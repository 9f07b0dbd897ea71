"""Records of jobs: status, attempt, progress and result. The engine keeps them."""

import re
import time
from collections.abc import AsyncIterator, Mapping
from dataclasses import asdict, dataclass, fields
from enum import StrEnum
from typing import Any, Protocol, cast

from pydantic import TypeAdapter
from pydantic_core import to_json
from typing_extensions import TypedDict  # pydantic needs it before Python 3.12


class JobStatus(StrEnum):
    """The status of a job."""

    PENDING = "pending"
    SCHEDULED = "scheduled"
    RUNNING = "running"
    COMPLETED = "completed"
    FAILED = "failed"
    ABORTED = "aborted"
    UNKNOWN = "unknown"

    @property
    def is_final(self) -> bool:
        """Whether a job with this status has ended."""
        return self in _FINAL


STAGE = re.compile(r"([0-9a-f]{32}):\d{1,4}")
"""The id of a chain's stage. Its first group is the chain's id."""

_STATES = frozenset(JobStatus)
_FINAL = frozenset({JobStatus.COMPLETED, JobStatus.FAILED, JobStatus.ABORTED})


class ErrorFields(TypedDict):
    """An error as text: the exception's class, its message and its traceback."""

    type: str
    message: str
    traceback: str


class ProgressFields(TypedDict):
    """A `Progress` as plain JSON data."""

    done: float
    total: float
    message: str


class RecordFields(TypedDict, total=False):
    """Fields of a record to write, as plain JSON data; `JobRecord` describes them."""

    state: JobStatus
    task: str
    owner: str | None
    correlation_id: str
    at: float | None
    attempt: int
    deliveries: int
    blocked: int
    fence: int
    unknown_since: float | None
    worker: str | None
    progress: ProgressFields | None
    abort: bool
    result: Any
    error: ErrorFields | None
    signature: str
    traceparent: str | None


Slots = dict[str, int]
"""The slots that a job needs: by key, the largest number of jobs that hold a slot at once."""

StashedLetter = dict[str, Any]
"""A dead letter that the queue's server keeps: plain JSON data with an `id`."""


@dataclass(frozen=True, slots=True)
class Progress:
    """The progress of a job.

    Attributes:
        done: The amount that is done.
        total: The whole amount.
        message: A text for people.
    """

    done: float
    total: float
    message: str


@dataclass(frozen=True, slots=True)
class JobRecord:
    """A job's record as it was read. A job without a record is `unknown`.

    Attributes:
        state: The stored status; read `status`, which knows the time.
        task: The task's name.
        owner: The id of the user who enqueued the job, or None.
        correlation_id: The correlation id of the code that enqueued the job. It is empty if that
            code had none: the job's own id is then used.
        at: When the job is due, in seconds since 1970; None if it was due at once.
        attempt: The number of the current or last attempt, from 1.
        deliveries: Consecutive deliveries without an outcome.
        blocked: Consecutive deliveries in which the job blocked the event loop of its worker.
        fence: The number of the current or last run. Unlike the other counts, it only grows.
        unknown_since: When a worker first could not read the job's message or find its tasks, in
            seconds since 1970.
        worker: The name of the worker that runs the job, or None.
        progress: The last reported progress.
        abort: Whether somebody asked to abort the running job.
        result: The task's result as plain JSON data.
        error: Why the job failed or was aborted.
        signature: The signature of the fields that grant access; see `Queue.sign_record`.
        traceparent: The span of the attempt before this one, or None.
    """

    state: JobStatus = JobStatus.UNKNOWN
    task: str = ""
    owner: str | None = None
    correlation_id: str = ""
    at: float | None = None
    attempt: int = 1
    deliveries: int = 0
    blocked: int = 0
    fence: int = 0
    unknown_since: float | None = None
    worker: str | None = None
    progress: Progress | None = None
    abort: bool = False
    result: Any = None
    error: ErrorFields | None = None
    signature: str = ""
    traceparent: str | None = None

    @classmethod
    def from_fields(cls, stored: Mapping[str, Any]) -> "JobRecord":
        """Make a record from stored fields.

        Args:
            stored: The fields. Unknown fields of a newer version are ignored, and a status that
                this version does not know is `unknown`.

        Raises:
            ValueError: A field has a wrong type.
        """
        state = stored.get("state")
        known = state if state in _STATES else JobStatus.UNKNOWN
        return _RECORD.validate_python({**stored, "state": known})

    @property
    def status(self) -> JobStatus:
        """The job's status now. A scheduled job that is due is `pending`."""
        is_due = (self.at or 0) <= time.time()
        if self.state is JobStatus.SCHEDULED and is_due:
            return JobStatus.PENDING
        return self.state


_RECORD = TypeAdapter(JobRecord)
_NAMES = tuple(RecordFields.__annotations__)
_DEFAULTS = {field.name: field.default for field in fields(JobRecord)}
_OWN = frozenset({"state", "fence", "deliveries", "blocked", "abort", "worker", "progress"})
"""The fields that engines read and change. They only pass on all others."""


def merge(record: JobRecord, fields: RecordFields) -> RecordFields:
    """Return all fields of a record, with some of them changed.

    Args:
        record: The record.
        fields: The new values.
    """
    kept: dict[str, Any] = {name: getattr(record, name) for name in _NAMES}
    if record.progress:
        kept["progress"] = asdict(record.progress)
    return cast(RecordFields, {**kept, **fields})


def dump_rest(record: RecordFields) -> bytes:
    """Return the fields of a record that engines only pass on, as JSON.

    Args:
        record: The record's fields.
    """
    return to_json(
        {
            name: value
            for name, value in record.items()
            if name not in _OWN and value != _DEFAULTS[name]
        }
    )


class Records(Protocol):
    """An engine's store of records."""

    async def read(self, ids: list[str]) -> list[JobRecord]:
        """Return the records of these jobs, in this order.

        Args:
            ids: The jobs' ids.
        """
        ...

    async def begin(self, job_id: str, fence: int | None = None) -> JobRecord:
        """Begin the delivery of a suspect, and return the job's record; see `Delivery`.

        The record stays unchanged if the job has ended, or if another delivery has begun.

        Args:
            job_id: The job's id.
            fence: The fence of the record when the message was taken; any fence if None.
        """
        ...

    async def acquire(self, job_id: str, fence: int, slots: Slots) -> int | None:
        """Let a run take all of its slots, or none of them. It gives them back at its end.

        Args:
            job_id: The job's id.
            fence: The fence of the run.
            slots: The slots.

        Returns:
            None, or the number of jobs that wait if a slot is missing.
        """
        ...

    def blame(self, job_id: str) -> None:
        """Record that a running job blocks the event loop of its worker.

        Any thread may call this. It does not use the event loop.

        Args:
            job_id: The job's id.

        Raises:
            QueueUnavailable: The server cannot be reached.
        """
        ...

    async def write_progress(self, job_id: str, progress: ProgressFields, fence: int) -> bool:
        """Keep the progress of a run, and return whether the run still has the job.

        Args:
            job_id: The job's id.
            progress: The progress.
            fence: The fence of the run.
        """
        ...

    async def request_abort(self, job_id: str, ttl: float) -> bool:
        """Abort a pending or scheduled job, and set `abort` for a running one.

        Args:
            job_id: The job's id.
            ttl: Seconds until the record expires if the job was aborted here.

        Returns:
            Whether the job was aborted here.
        """
        ...

    async def claim(self, claims: dict[str, str], ttl: float) -> dict[str, str]:
        """Let jobs hold keys. A job holds a key until the job has ended.

        Args:
            claims: For each key, the claim of the job that asks for it: a signature, a space, and
                the job's id.
            ttl: Seconds after which a key is free even if its job has not ended.

        Returns:
            For each key, the claim of the job that holds it: the job that asked, or an unfinished
            job that held the key before.
        """
        ...

    def stashed(self) -> AsyncIterator[dict[str, str]]:
        """Yield all stashed dead letters in batches: their JSON by id.

        Dead letters that are stashed during the iteration may be missing.
        """
        ...

    async def count_stashed(self) -> int:
        """Return the number of stashed dead letters."""
        ...

    async def unstash(self, letter_ids: list[str]) -> None:
        """Remove stashed dead letters, after they were stored elsewhere.

        Args:
            letter_ids: The `id` of each dead letter.
        """
        ...

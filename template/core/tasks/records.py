"""The record of a job: a small set of text fields beside the queue, from which its status is read."""

import time
from enum import StrEnum
from typing import Any, Protocol

Fields = dict[str, Any]
"""`state`, `task`, `owner`, `correlation_id`, `at`, `attempt`, `deliveries`, `progress`, `abort`, `result`, `error`:
plain JSON data."""


class JobStatus(StrEnum):
    """Where a job stands."""

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


_FINAL = frozenset({JobStatus.COMPLETED, JobStatus.FAILED, JobStatus.ABORTED})


def status_of(record: Fields) -> JobStatus:
    """The status that a record tells; a scheduled job whose time has come is `pending`."""
    status = JobStatus(record.get("state", JobStatus.UNKNOWN))
    if status is JobStatus.SCHEDULED and (record.get("at") or 0) <= time.time():
        return JobStatus.PENDING
    return status


class Records(Protocol):
    """Where an engine keeps the records. A job without a record is `unknown`."""

    async def read(self, ids: list[str]) -> list[Fields]:
        """The records of these jobs, in this order; an empty one where there is none."""
        ...

    async def begin(self, job_id: str, limit: int | None = None) -> Fields:
        """Mark a job `running`, count the delivery, and return its record as it then is.

        A job that has ended stays as it is: the state that comes back is final, and it must not run again. One that
        was delivered so often that it is suspected of ending its worker stays as it is, too: the record that comes
        back has `suspect` set.

        Args:
            job_id: Which job.
            limit: Deliveries in a row from which a job is suspected; none is where None.
        """
        ...

    async def write(self, job_id: str, fields: Fields, ttl: float | None) -> None:
        """Set some fields of a record. One whose job has ended stays as it is.

        Args:
            job_id: Which job.
            fields: What to set.
            ttl: Seconds until the record goes, or None while the job is not over.
        """
        ...

    async def request_abort(self, job_id: str, ttl: float) -> Fields:
        """Make a job that waits `aborted`, set `abort` on one that runs, and return its record as it then is.

        Args:
            job_id: Which job.
            ttl: Seconds until the record of a job that has just become `aborted` goes.
        """
        ...

    async def claim(self, keys: dict[str, str], ttl: float) -> dict[str, str]:
        """Let jobs hold keys, each as long as it is not over.

        Args:
            keys: For each key the id of the job that wants to hold it.
            ttl: Seconds after which a key is free again, even where its job is not over.

        Returns:
            For each key the id of the job that holds it: this one, or the unfinished one that was there before.
        """
        ...

    async def bury(self, job_id: str, fields: Fields, ttl: float, letter: Fields) -> None:
        """As `write`, and keep a dead letter with it, both or neither, until `unbury` takes it away.

        Where the job has ended already, nothing is kept.

        Args:
            job_id: Which job.
            fields: What to set in its record.
            ttl: Seconds until the record goes.
            letter: Plain JSON data with an `id` of its own.
        """
        ...

    async def buried(self) -> list[Fields]:
        """Some of the dead letters that are kept here."""
        ...

    async def unbury(self, letter_ids: list[str]) -> None:
        """Take dead letters away, once they are safe elsewhere."""
        ...

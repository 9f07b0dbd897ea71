"""Summaries of jobs, from their records, their kept runs and their dead letters."""

from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any

from core.models import DeadLetterModel, RunModel
from core.tasks.records import JobRecord, JobStatus, Progress

ENDED = (JobStatus.COMPLETED, JobStatus.FAILED, JobStatus.ABORTED)
MAX_ERROR = 500
NO_RECORD = "the job has no record that can be read"


@dataclass(frozen=True, slots=True)
class JobSummary:
    """One job in a list. A missing value is None.

    Attributes:
        id: The job's id.
        task: The task's name; empty if the job is `unknown`.
        state: The job's status. A job is `unknown` if its record is missing or forged.
        at: The time at which the job ended, or None if no run of it was kept. If the job has not
            ended, the time at which it is due.
        owner: The id of the user who enqueued the job.
        correlation_id: The correlation id of the code that enqueued the job.
        attempt: The number of the current or last attempt, from 1.
        worker: The name of the worker that runs the job, or that ran it last.
        progress: The last reported progress.
        seconds: The duration of the last run in seconds.
        error: The class and message of the last error, in one line.
    """

    id: str
    task: str
    state: JobStatus
    at: datetime | None = None
    owner: str | None = None
    correlation_id: str = ""
    attempt: int = 1
    worker: str | None = None
    progress: Progress | None = None
    seconds: float | None = None
    error: str | None = None


def from_record(job_id: str, record: JobRecord, state: JobStatus, at: float | None) -> JobSummary:
    """Return a job as its record shows it; `at` is in seconds since 1970."""
    error = None if record.task else NO_RECORD
    if record.error:
        error = f"{record.error['type']}: {record.error['message']}"
    due = None if at is None else datetime.fromtimestamp(at, UTC)
    return _make(
        job_id,
        record,
        state,
        due,
        record.attempt,
        error,
        worker=record.worker,
        progress=record.progress,
    )


def from_run(run: RunModel) -> JobSummary:
    """Return a job as one of its runs shows it. If the run was retried, the state is `unknown`."""
    state = JobStatus(run.ended_as) if run.ended_as in ENDED else JobStatus.UNKNOWN
    ended_at = run.started_at + timedelta(seconds=run.seconds)
    return _make(
        run.job_id,
        run,
        state,
        ended_at,
        run.attempt,
        run.error,
        worker=run.worker,
        seconds=run.seconds,
    )


def from_letter(letter: DeadLetterModel) -> JobSummary:
    """Return a job as its dead letter shows it."""
    error = f"{letter.error_type}: {letter.error}"
    failed = JobStatus.FAILED
    return _make(letter.job_id, letter, failed, letter.died_at, letter.attempts, error)


def join(job_id: str, record: JobRecord, last: JobSummary | None) -> JobSummary | None:
    """Return a job from its record. Its last run or dead letter adds the missing values."""
    if record.state is JobStatus.UNKNOWN:
        return last
    due = None if record.status.is_final else record.at
    job = from_record(job_id, record, record.status, due)
    if last is None:
        return job
    at = last.at if job.state.is_final else job.at
    error = job.error or last.error
    return replace(job, at=at, worker=job.worker or last.worker, seconds=last.seconds, error=error)


def _make(
    job_id: str,
    source: JobRecord | RunModel | DeadLetterModel,
    state: JobStatus,
    at: datetime | None,
    attempt: int,
    error: str | None,
    **more: Any,
) -> JobSummary:
    return JobSummary(
        id=job_id,
        task=source.task or "",
        state=state,
        at=at,
        owner=source.owner,
        correlation_id=source.correlation_id or job_id,
        attempt=attempt,
        error=error.partition("\n")[0][:MAX_ERROR] if error else None,
        **more,
    )

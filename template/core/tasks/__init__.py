"""The task system. Import from here; the modules behind it may change.

`from core.tasks.worker import worker` is the registry to which tasks belong.
"""

from core.tasks.chain import Chain, ChainJob
from core.tasks.current import CurrentJob, current_job, report_progress
from core.tasks.dead_letters import DeadLetterError, DeadLetters
from core.tasks.errors import (
    InvalidArguments,
    InvalidTask,
    JobExpired,
    JobFailed,
    PermanentError,
    QueueUnavailable,
    TransientError,
)
from core.tasks.job import Job
from core.tasks.records import JobRecord, JobStatus, Progress
from core.tasks.schedules import ScheduleView
from core.tasks.sensitive import Sensitive
from core.tasks.task import Task
from core.tasks.worker import Worker, WorkerContext, worker

__all__ = [
    "Chain",
    "ChainJob",
    "CurrentJob",
    "DeadLetterError",
    "DeadLetters",
    "InvalidArguments",
    "InvalidTask",
    "Job",
    "JobExpired",
    "JobFailed",
    "JobRecord",
    "JobStatus",
    "PermanentError",
    "Progress",
    "QueueUnavailable",
    "ScheduleView",
    "Sensitive",
    "Task",
    "TransientError",
    "Worker",
    "WorkerContext",
    "current_job",
    "report_progress",
    "worker",
]

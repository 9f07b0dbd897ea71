"""The task system, as services use it. The modules behind this one may change in any update."""

from core.tasks.alerts import Alert
from core.tasks.bound import BoundTask
from core.tasks.chain import Chain, ChainJob
from core.tasks.current import CurrentJob, current_job, report_progress
from core.tasks.dead_letters import (
    DeadLetterError,
    DeadLetterFilters,
    DeadLetterGroup,
    DeadLetters,
)
from core.tasks.errors import (
    InvalidArguments,
    InvalidTask,
    JobExpired,
    JobFailed,
    PermanentError,
    QueueUnavailable,
    RetryAfter,
    ScheduleError,
    TransientError,
)
from core.tasks.failures import JobFailure
from core.tasks.history import History
from core.tasks.job import Job
from core.tasks.jobs import JobDetails, JobPage, Jobs
from core.tasks.limits import Limit
from core.tasks.options import TaskOptions
from core.tasks.records import JobRecord, JobStatus, Progress
from core.tasks.schedules.options import ScheduleOptions
from core.tasks.schedules.schedules import Schedules, ScheduleView
from core.tasks.sensitive import Sensitive
from core.tasks.statistics import Period, Statistics, TaskFigures
from core.tasks.summaries import JobSummary
from core.tasks.task import Task
from core.tasks.worker import Worker, WorkerContext, worker

__all__ = [
    "Alert",
    "BoundTask",
    "Chain",
    "ChainJob",
    "CurrentJob",
    "DeadLetterError",
    "DeadLetterFilters",
    "DeadLetterGroup",
    "DeadLetters",
    "History",
    "InvalidArguments",
    "InvalidTask",
    "Job",
    "JobDetails",
    "JobExpired",
    "JobFailed",
    "JobFailure",
    "JobPage",
    "JobRecord",
    "JobStatus",
    "JobSummary",
    "Jobs",
    "Limit",
    "Period",
    "PermanentError",
    "Progress",
    "QueueUnavailable",
    "RetryAfter",
    "ScheduleError",
    "ScheduleOptions",
    "ScheduleView",
    "Schedules",
    "Sensitive",
    "Statistics",
    "Task",
    "TaskFigures",
    "TaskOptions",
    "TransientError",
    "Worker",
    "WorkerContext",
    "current_job",
    "report_progress",
    "worker",
]

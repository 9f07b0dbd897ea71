"""The task system. Import from here; the modules behind it may change.

`worker` is the registry to which tasks belong. `from core.tasks import worker` and
`from core.tasks.worker import worker` import the same object.
"""

from core.tasks.chain import Chain, ChainJob
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
from core.tasks.history import History
from core.tasks.job import CurrentJob, Job, Progress, current_job, report_progress
from core.tasks.records import JobStatus
from core.tasks.records import status_of as status_of  # core.web; not public
from core.tasks.schedules import ScheduleError, Schedules, ScheduleView
from core.tasks.sensitive import Sensitive
from core.tasks.task import BoundTask, Task, TaskOptions
from core.tasks.worker import Worker, WorkerContext, worker

__all__ = [
    "BoundTask",
    "Chain",
    "ChainJob",
    "CurrentJob",
    "DeadLetterError",
    "DeadLetters",
    "History",
    "InvalidArguments",
    "InvalidTask",
    "Job",
    "JobExpired",
    "JobFailed",
    "JobStatus",
    "PermanentError",
    "Progress",
    "QueueUnavailable",
    "ScheduleError",
    "ScheduleView",
    "Schedules",
    "Sensitive",
    "Task",
    "TaskOptions",
    "TransientError",
    "Worker",
    "WorkerContext",
    "current_job",
    "report_progress",
    "worker",
]

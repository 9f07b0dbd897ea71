from datetime import datetime

from beanie import Document


class ScheduleModel(Document):
    """The state of a schedule that the code declares.

    Attributes:
        id: The schedule's name.
        trigger: The trigger from which `next_run` was computed.
        enabled: Whether the schedule enqueues jobs.
        next_run: The next time, or None if there is no next time.
        last_run: The time for which the last job was enqueued.
        last_job: The id of the last job.
        last_ended_job: The id of the last job that ended.
        last_status: The status of the last job that ended.
    """

    id: str  # type: ignore[assignment]  # a name from the code
    trigger: str
    enabled: bool
    next_run: datetime | None
    last_run: datetime | None = None
    last_job: str | None = None
    last_ended_job: str | None = None
    last_status: str | None = None

    class Settings:
        name = "schedules"

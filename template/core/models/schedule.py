from datetime import datetime

from beanie import Document


class ScheduleModel(Document):
    """The state of a schedule that the code declares.

    Attributes:
        id: The schedule's id.
        definition: A hash of the declaration that the schedule belongs to. Only workers that have
            the same declaration fire it.
        claimed_at: When a worker with this declaration was last seen.
        trigger: The trigger from which `next_run` was computed.
        enabled: Whether the schedule enqueues jobs.
        declared_enabled: The value of `enabled` in the declaration.
        next_run: The next time, or None if there is no next time.
        last_run: The time for which the last job was enqueued.
        last_job: The id of the last job.
        missed_run: The time of the latest run if no worker enqueued it in time, or None.
        last_ended_job: The id of the last job that ended.
        last_status: The status of the last job that ended.
    """

    id: str  # type: ignore[assignment]  # a name from the code
    # States of earlier versions lack some fields.
    definition: str | None = None
    claimed_at: datetime | None = None
    trigger: str
    enabled: bool
    declared_enabled: bool | None = None
    next_run: datetime | None
    last_run: datetime | None = None
    last_job: str | None = None
    missed_run: datetime | None = None
    last_ended_job: str | None = None
    last_status: str | None = None

    class Settings:
        name = "schedules"
        indexes = ("next_run",)

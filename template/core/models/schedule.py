from datetime import datetime

from beanie import Document


class ScheduleModel(Document):
    """What is known of a schedule beside the code that declares it.

    Attributes:
        id: Its name.
        trigger: As it was when `next_run` was computed.
        enabled: Whether it fires.
        next_run: When it fires next; None where it never does again.
        last_run: For when it fired last.
        last_job: The id of the job of that time.
        last_ended_job: The id of the job that ended last.
        last_status: How that one ended.
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

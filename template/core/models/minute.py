from datetime import datetime
from typing import Annotated, Any, ClassVar

from beanie import Document, Indexed


class MinuteModel(Document):
    """The runs that ended in one worker within a minute, an hour or a day.

    Attributes:
        start: The start of the minute, hour or day, by the clock of the worker.
        minutes: The length: 1, 60 or 1440.
        worker: The name of the worker.
        tasks: A row for each task, with the fields `task`, `core.tasks.minutes.FIELDS` and
            `core.tasks.minutes.LONGEST`. A count of zero is left out. The rows are a list, because
            a task's name may contain a dot.
        expires_at: The time at which MongoDB removes the document.
    """

    start: datetime
    minutes: int
    worker: str
    tasks: list[dict[str, Any]]
    expires_at: Annotated[datetime, Indexed(expireAfterSeconds=0)]

    class Settings:
        name = "job_minutes"
        indexes: ClassVar = [[("minutes", 1), ("start", 1)]]

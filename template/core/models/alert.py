from datetime import datetime
from typing import Annotated

from beanie import Document, Indexed
from pydantic import Field


class AlertCheckModel(Document):
    """The last check for alerts, as one document. It lets only one process make each check.

    Attributes:
        checked_at: The time at which the check began, by the clock of MongoDB's server.
    """

    id: str  # type: ignore[assignment]  # not an ObjectId
    checked_at: datetime

    class Settings:
        name = "alert_checks"


class AlertModel(Document):
    """An alert. All times are from the clock of MongoDB's server.

    Attributes:
        id: The kind and the key, as `kind:key`.
        kind: `dead_letters`, `backlog`, `schedule` or `no_worker`.
        key: The subject, such as a schedule's id.
        title: One line for people.
        text: The details.
        started_at: The time at which the condition was first found.
        seen_at: The time at which the condition was last found.
        ended_at: The time at which the alert ended, or None.
        told_at: The time at which all hooks had received `told_text`, or None.
        told_text: The text of the last message.
        untold: The hooks that have not received the current message.
        claimed_until: Until this time, only the process that set it calls the hooks.
    """

    id: str  # type: ignore[assignment]  # not an ObjectId
    kind: str
    key: str
    title: str
    text: str
    started_at: datetime
    seen_at: datetime
    ended_at: Annotated[datetime | None, Indexed(expireAfterSeconds=14 * 86400)] = None
    told_at: datetime | None = None
    told_text: str | None = None
    untold: list[str] = Field(default_factory=list)
    claimed_until: datetime | None = None

    class Settings:
        name = "alerts"

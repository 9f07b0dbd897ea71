from datetime import UTC, datetime
from typing import Annotated, Any

from beanie import Document, Indexed
from pydantic import Field


class AuditModel(Document):
    """An entry of the audit log. `audit_log` writes entries, and they never change.

    Attributes:
        action: The action, such as `password.changed`.
        actor: The id of the user who acted, or for whom a job acted. None if nobody has proven who
            they are with a session, a password or an emailed link.
        subject: The id of the user whom the action concerns.
        details: More facts, such as the address of a failed log-in.
        correlation_id: The correlation id of the request or job.
        at: The time of the action.
    """

    action: Annotated[str, Indexed()]
    actor: Annotated[str | None, Indexed()] = None
    subject: Annotated[str | None, Indexed()] = None
    details: dict[str, Any] = Field(default_factory=dict)
    correlation_id: str | None = None
    at: Annotated[datetime, Indexed()] = Field(default_factory=lambda: datetime.now(UTC))

    class Settings:
        name = "audit_log"

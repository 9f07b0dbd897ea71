from datetime import UTC, datetime
from typing import Annotated, Any

from beanie import Document, Indexed
from pydantic import Field


class AuditModel(Document):
    """Something that somebody did. `core.services.audit.audit_log` writes these; nothing changes them.

    Attributes:
        action: What was done, such as `password.changed`.
        actor: The id of the user who did it, or on whose behalf it was done; None where nobody had logged in.
        details: What else is known, such as the address that somebody tried to log in with.
        correlation_id: Of the request or job in which it happened.
    """

    action: Annotated[str, Indexed()]
    actor: Annotated[str | None, Indexed()] = None
    details: dict[str, Any] = Field(default_factory=dict)
    correlation_id: str | None = None
    at: Annotated[datetime, Indexed()] = Field(default_factory=lambda: datetime.now(UTC))

    class Settings:
        name = "audit_log"

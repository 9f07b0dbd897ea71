"""The audit log: who did what, in the words of the service."""

from datetime import UTC, datetime
from typing import Any

from pydantic_core import to_jsonable_python

from core.context import TaskContext
from core.database import current_session
from core.models import AuditModel

__all__ = ["audit_log"]


async def audit_log(
    action: str, *, user_id: object = None, timestamp: datetime | None = None, **details: Any
) -> AuditModel:
    """Write an entry. Inside a transaction it belongs to that one.

    Args:
        action: What was done, as `thing.happened`.
        user_id: Who did it; the user on whose behalf this code runs where None.
        timestamp: When; now where None. A naive time is local, as Python takes it.
        **details: What else is worth knowing; kept as JSON. No secrets: administrators read this.
    """
    actor = TaskContext.get_actor() if user_id is None else str(user_id)
    entry = AuditModel(
        action=action,
        actor=actor,
        details=to_jsonable_python(details, fallback=str),
        correlation_id=TaskContext.get_correlation_id(),
        at=(timestamp or datetime.now(UTC)).astimezone(UTC),
    )
    return await entry.insert(session=current_session())

"""The audit log, a record of who did what, and to whom."""

from datetime import UTC, datetime
from typing import Any

from pydantic_core import to_jsonable_python

from core.context import TaskContext
from core.database import current_session
from core.models import AuditModel

__all__ = ["audit_log"]

MAX_NOTED = 100
"""The largest number of ids in an entry about many things."""


async def audit_log(
    action: str,
    *,
    user_id: object = None,
    timestamp: datetime | None = None,
    **details: Any,
) -> AuditModel:
    """Write an entry. In a transaction, the entry is part of it.

    The actor is the user of `TaskContext.get_actor()`, or None if nobody has proven who they are.

    Args:
        action: The action, as `thing.happened`.
        user_id: The user whom the action concerns, stored as `subject`.
        timestamp: The time of the action. Defaults to now. A naive time is local time.
        **details: More facts, stored as JSON. Administrators read them, so pass no secrets.

    Returns:
        The stored entry.
    """
    subject = None if user_id is None else str(user_id)
    time = timestamp or datetime.now(UTC)
    entry = AuditModel(
        action=action,
        actor=TaskContext.get_actor(),
        subject=subject,
        details=to_jsonable_python(details, fallback=str),
        correlation_id=TaskContext.get_correlation_id(),
        at=time.astimezone(UTC),
    )
    return await entry.insert(session=current_session())

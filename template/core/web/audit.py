"""The route of the audit log, for administrators."""

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Annotated, Any

from bson import ObjectId
from fastapi import APIRouter, Depends, Query
from pydantic import AwareDatetime, BaseModel

from core.database import make_query
from core.models import AuditModel
from core.web.auth import current_admin

MIN_TIME = datetime(1970, 1, 1, tzinfo=UTC)
MAX_TIME = datetime(9999, 1, 1, tzinfo=UTC)
Time = Annotated[AwareDatetime, Query(ge=MIN_TIME, le=MAX_TIME)]
EntryId = Annotated[str, Query(pattern="^[0-9a-f]{24}$")]
Limit = Annotated[int, Query(ge=1, le=1000)]


class AuditEntry(BaseModel):
    """An entry of the audit log, as the route returns it."""

    id: str
    action: str
    actor: str | None
    subject: str | None
    details: dict[str, Any]
    correlation_id: str | None
    at: datetime


def audit_router(current_user: Callable[..., Any]) -> APIRouter:
    """Return the router with `GET /audit-log`.

    Args:
        current_user: The dependency that returns the logged-in user.
    """
    router = APIRouter(tags=["audit"])

    async def require_admin(
        user: Annotated[Any, Depends(current_user)],
    ) -> None:
        await current_admin(user)

    @router.get(
        "/audit-log",
        dependencies=[Depends(require_admin)],
        responses={401: {}, 403: {}},
    )
    async def show_audit_log(
        action: str | None = None,
        actor: str | None = None,
        subject: str | None = None,
        since: Time | None = None,
        until: Time | None = None,
        before: EntryId | None = None,
        limit: Limit = 100,
    ) -> list[AuditEntry]:
        """List the entries of the audit log, the newest first.

        `actor` is the user who acted, and `subject` the user whom the action concerns.
        For the next page, pass the id of the last entry as `before`.
        """
        query = make_query(
            "at",
            since,
            until,
            action=action,
            actor=actor,
            subject=subject,
        )
        if before:
            query["_id"] = {"$lt": ObjectId(before)}
        newest = AuditModel.find(query).sort("-_id").limit(limit)
        return [_view(entry) async for entry in newest]

    return router


def _view(entry: AuditModel) -> AuditEntry:
    fields = entry.model_dump(exclude={"id"})
    return AuditEntry(id=str(entry.id), **fields)

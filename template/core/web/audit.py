"""The audit log, for administrators."""

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Annotated, Any

from bson import ObjectId
from fastapi import APIRouter, Depends, Query
from pydantic import AwareDatetime, BaseModel

from core.database import make_query
from core.models import AuditModel
from core.web.auth import ensure_admin

Moment = Annotated[
    AwareDatetime, Query(ge=datetime(1970, 1, 1, tzinfo=UTC), le=datetime(9999, 1, 1, tzinfo=UTC))
]


class AuditEntry(BaseModel):
    id: str
    action: str
    actor: str | None
    details: dict[str, Any]
    correlation_id: str | None
    at: datetime


def audit_router(current_user: Callable[..., Any]) -> APIRouter:
    """`GET /audit-log`."""
    router = APIRouter(tags=["audit"])

    async def require_admin(user: Annotated[Any, Depends(current_user)]) -> None:
        ensure_admin(user)

    @router.get("/audit-log", responses={401: {}, 403: {}}, dependencies=[Depends(require_admin)])
    async def show_audit_log(
        action: str | None = None,
        actor: str | None = None,
        since: Moment | None = None,
        until: Moment | None = None,
        before: Annotated[str | None, Query(pattern="^[0-9a-f]{24}$")] = None,
        limit: Annotated[int, Query(ge=1, le=1000)] = 100,
    ) -> list[AuditEntry]:
        """Who did what, the newest first. For older ones ask again, with the id of the last one as `before`."""
        query = make_query("at", since, until, action=action, actor=actor)
        query |= {"_id": {"$lt": ObjectId(before)}} if before else {}
        entries = await AuditModel.find(query).sort("-_id").limit(limit).to_list()
        return [
            AuditEntry(**entry.model_dump(exclude={"id"}), id=str(entry.id)) for entry in entries
        ]

    return router

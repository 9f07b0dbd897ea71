"""The audit log, for administrators."""

from collections.abc import Callable
from datetime import datetime
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Query
from pydantic import AwareDatetime, BaseModel, ConfigDict

from core.models import AuditModel
from core.tasks.history import make_query
from core.web.auth import ensure_admin


class AuditEntry(BaseModel):
    model_config = ConfigDict(from_attributes=True)

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
        since: AwareDatetime | None = None,
        until: AwareDatetime | None = None,
        limit: Annotated[int, Query(ge=1, le=1000)] = 100,
    ) -> list[AuditEntry]:
        """Who did what, the newest first. For older ones ask again, with the time of the last one as `until`."""
        query = make_query("at", since, until, action=action, actor=actor)
        entries = await AuditModel.find(query).sort("-at").limit(limit).to_list()
        return [AuditEntry.model_validate(entry) for entry in entries]

    return router

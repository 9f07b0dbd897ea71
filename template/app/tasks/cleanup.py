"""What is over is removed, in batches, by schedule."""

from datetime import UTC, datetime, timedelta
from typing import Any

from beanie import Document

from app.models.session import Session
from core.models import AuditModel, DeadLetterModel, DeadLetterState, RunModel
from core.services.blob import blob_service
from core.tasks.worker import worker

BATCH = 1000
SESSIONS_KEPT = timedelta(days=30)
LETTERS_KEPT = timedelta(days=90)
AUDIT_KEPT = timedelta(days=365)


@worker.cron("0 */6 * * *")
@worker.task(max_retries=3, timeout=300, unique=True)
async def cleanup_expired_sessions() -> dict[str, str | int]:
    """Remove sessions that expired some time ago; MongoDB does so by itself, unless its index was dropped."""
    deleted = await _delete(Session, {"expires_at": {"$lt": datetime.now(UTC) - SESSIONS_KEPT}})
    return {"status": "completed", "deleted_count": deleted}


@worker.cron("30 3 * * *")
@worker.task(max_retries=3, timeout=3600, unique=True)
async def cleanup_orphaned_blobs() -> dict[str, str | int]:
    """Remove files that no record knows, as an upload leaves that was cut off."""
    return {"status": "completed", "deleted_count": await blob_service.delete_orphans()}


@worker.cron("0 4 * * *")
@worker.task(max_retries=3, timeout=3600, unique=True)
async def cleanup_old_history() -> dict[str, str | int]:
    """Remove runs of jobs that have expired, dead letters decided long ago, and the audit log of years past."""
    now = datetime.now(UTC)
    decided = {"state": {"$ne": DeadLetterState.DEAD}, "died_at": {"$lt": now - LETTERS_KEPT}}
    deleted = await _delete(RunModel, {"expires_at": {"$lt": now}})
    deleted += await _delete(DeadLetterModel, decided)
    deleted += await _delete(AuditModel, {"at": {"$lt": now - AUDIT_KEPT}})
    return {"status": "completed", "deleted_count": deleted}


async def _delete(model: type[Document], query: dict[str, Any]) -> int:
    """Delete in batches, each of which is short for the database."""
    collection, deleted = model.get_pymongo_collection(), 0
    while ids := [
        found["_id"] async for found in collection.find(query, {"_id": True}).limit(BATCH)
    ]:
        await collection.delete_many({"_id": {"$in": ids}})
        deleted += len(ids)
    return deleted

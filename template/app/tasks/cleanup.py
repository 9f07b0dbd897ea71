"""Scheduled tasks that delete expired data."""

from datetime import UTC, datetime, timedelta
from typing import Any

from beanie import Document

from app.models.session import Session
from core.models import AuditModel, BlobModel, DeadLetterModel, DeadLetterState, RunModel
from core.services.blob import blob_service
from core.tasks.worker import worker

DELETE_BATCH = 1000
SESSION_RETENTION = timedelta(days=30)
DEAD_LETTER_RETENTION = timedelta(days=90)
AUDIT_RETENTION = timedelta(days=365)


@worker.cron("0 */6 * * *")
@worker.task(max_retries=3, timeout=300, unique=True)
async def cleanup_expired_sessions() -> dict[str, str | int]:
    """Delete sessions that expired more than `SESSION_RETENTION` ago.

    MongoDB normally deletes them earlier. This task also works if their index was dropped.
    """
    limit = datetime.now(UTC) - SESSION_RETENTION
    deleted = await _delete(Session, {"expires_at": {"$lt": limit}})
    return {"status": "completed", "deleted_count": deleted}


@worker.cron("30 3 * * *")
@worker.task(max_retries=3, timeout=3600, unique=True)
async def cleanup_orphaned_blobs() -> dict[str, str | int]:
    """Delete files without a record. Interrupted uploads and expired blobs leave such files."""
    # MongoDB normally deletes expired records earlier, as it does with sessions.
    await _delete(BlobModel, {"expires_at": {"$lt": datetime.now(UTC)}})
    deleted = await blob_service.delete_orphans()
    return {"status": "completed", "deleted_count": deleted}


@worker.cron("0 4 * * *")
@worker.task(max_retries=3, timeout=3600, unique=True)
async def cleanup_old_history() -> dict[str, str | int]:
    """Delete old audit entries, expired job history, and old dead letters.

    Dead letters that are neither replayed nor discarded are kept.
    """
    now = datetime.now(UTC)
    old_letters = {
        "state": {"$in": [DeadLetterState.REPLAYED, DeadLetterState.DISCARDED]},
        "died_at": {"$lt": now - DEAD_LETTER_RETENTION},
    }
    old_entries = {"at": {"$lt": now - AUDIT_RETENTION}}
    deleted = await _delete(RunModel, {"expires_at": {"$lt": now}})
    deleted += await _delete(DeadLetterModel, old_letters)
    deleted += await _delete(AuditModel, old_entries)
    return {"status": "completed", "deleted_count": deleted}


async def _delete(model: type[Document], query: dict[str, Any]) -> int:
    """Delete documents in batches, so that no single operation takes long."""
    collection = model.get_pymongo_collection()
    deleted = 0
    while True:
        cursor = collection.find(query, {"_id": True})
        found = await cursor.limit(DELETE_BATCH).to_list()
        if not found:
            return deleted
        ids = [document["_id"] for document in found]
        await collection.delete_many({"_id": {"$in": ids}})
        deleted += len(ids)

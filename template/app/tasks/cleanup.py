"""What is over is removed, in batches, by schedule."""

from datetime import UTC, datetime, timedelta

from app.models.session import Session
from app.tasks.worker import worker
from core.services.blob import blob_service

BATCH = 1000
KEPT = timedelta(days=30)


@worker.cron("0 */6 * * *")
@worker.task(max_retries=3, timeout=300, unique=True)
async def cleanup_expired_sessions() -> dict[str, str | int]:
    """Remove sessions that expired some time ago; MongoDB does so by itself, unless its index was dropped."""
    deleted = 0
    while expired := await Session.find(Session.expires_at < datetime.now(UTC) - KEPT).limit(BATCH).to_list():
        await Session.find({"_id": {"$in": [session.id for session in expired]}}).delete()
        deleted += len(expired)
    return {"status": "completed", "deleted_count": deleted}


@worker.cron("30 3 * * *")
@worker.task(max_retries=3, timeout=3600, unique=True)
async def cleanup_orphaned_blobs() -> dict[str, str | int]:
    """Remove files that no record knows, as an upload leaves that was cut off."""
    return {"status": "completed", "deleted_count": await blob_service.delete_orphans()}

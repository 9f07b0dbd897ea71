"""What is over is removed, and nothing else."""

from datetime import UTC, datetime, timedelta

from app.models.session import Session
from app.tasks.cleanup import cleanup_expired_sessions, cleanup_orphaned_blobs
from core.services.blob import blob_service


async def test_only_sessions_that_expired_long_ago_are_removed(db, user, monkeypatch):
    monkeypatch.setattr("app.tasks.cleanup.BATCH", 2)
    await Session.get_pymongo_collection().drop_indexes()  # MongoDB's own removal must not come before
    now = datetime.now(UTC)
    for number, days in enumerate([-31, -31, -31, -29, 1]):
        await Session(token_hash=str(number), user_id=user.id, expires_at=now + timedelta(days=days)).insert()

    assert await cleanup_expired_sessions() == {"status": "completed", "deleted_count": 3}
    assert {session.token_hash for session in await Session.find_all().to_list()} == {"3", "4"}


async def test_blobs_that_are_known_or_young_stay(db, running_worker):
    blob = await blob_service.upload(b"kept", "kept.txt")
    job = await cleanup_orphaned_blobs.enqueue()

    assert await job.result(timeout=10) == {"status": "completed", "deleted_count": 0}
    assert await blob_service.download(str(blob.id)) == b"kept"

"""What is over is removed, and nothing else."""

from datetime import UTC, datetime, timedelta

from app.models.session import Session
from app.tasks.cleanup import cleanup_expired_sessions, cleanup_old_history, cleanup_orphaned_blobs
from core.models import AuditModel, DeadLetterModel, DeadLetterState, RunModel
from core.services.audit import audit_log
from core.services.blob import blob_service


async def test_only_sessions_that_expired_long_ago_are_removed(db, user, monkeypatch):
    monkeypatch.setattr("app.tasks.cleanup.BATCH", 2)
    await (
        Session.get_pymongo_collection().drop_indexes()
    )  # MongoDB's own removal must not come before
    now = datetime.now(UTC)
    for number, days in enumerate([-31, -31, -31, -29, 1]):
        await Session(
            token_hash=str(number), user_id=user.id, expires_at=now + timedelta(days=days)
        ).insert()

    assert await cleanup_expired_sessions() == {"status": "completed", "deleted_count": 3}
    assert {session.token_hash for session in await Session.find_all().to_list()} == {"3", "4"}


async def test_blobs_that_are_known_or_young_stay(db):
    blob = await blob_service.upload(b"kept", "kept.txt")

    assert await cleanup_orphaned_blobs() == {"status": "completed", "deleted_count": 0}
    assert await blob_service.download(str(blob.id)) == b"kept"


async def test_on_a_real_worker(db, running_worker):
    for task in (cleanup_expired_sessions, cleanup_orphaned_blobs, cleanup_old_history):
        job = await task.enqueue()
        assert await job.result(timeout=10) == {"status": "completed", "deleted_count": 0}


async def test_only_history_that_nobody_needs_is_removed(db):
    await RunModel.get_pymongo_collection().drop_indexes()
    now = datetime.now(UTC)
    for days in (-1, 1):
        run = RunModel(
            job_id="1", task="t", attempt=1, ended_as="failed", started_at=now, seconds=1, correlation_id="c",
            expires_at=now + timedelta(days=days),
        )  # fmt: skip
        await run.insert()
    for number, (state, days) in enumerate(
        [("dead", 400), ("replayed", 91), ("discarded", 91), ("replayed", 89)]
    ):
        letter = DeadLetterModel(
            id=str(number), job_id="1", error_type="E", error="", attempts=1, died_at=now - timedelta(days=days),
            state=DeadLetterState(state),
        )  # fmt: skip
        await letter.insert()
    for days in (366, 364):
        await audit_log("tested", timestamp=now - timedelta(days=days))

    assert await cleanup_old_history() == {"status": "completed", "deleted_count": 4}
    assert await RunModel.count() == 1
    assert {letter.id for letter in await DeadLetterModel.find_all().to_list()} == {"0", "3"}
    assert await AuditModel.count() == 1

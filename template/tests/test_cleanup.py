"""Cleanup: only expired data is deleted."""

import os
from datetime import UTC, datetime, timedelta
from pathlib import Path

from app.models.session import Session
from app.tasks.cleanup import (
    cleanup_expired_sessions,
    cleanup_old_history,
    cleanup_orphaned_blobs,
)
from core.models import AuditModel, BlobModel, DeadLetterModel, DeadLetterState, RunModel
from core.services.audit import audit_log
from core.services.blob import blob_service


async def test_old_sessions_are_deleted(db, user, monkeypatch):
    monkeypatch.setattr("app.tasks.cleanup.DELETE_BATCH", 2)
    # Otherwise MongoDB might delete them first.
    await Session.get_pymongo_collection().drop_indexes()
    now = datetime.now(UTC)
    for number, days in enumerate([-31, -31, -31, -29, 1]):
        session = Session(
            token_hash=str(number),
            user_id=user.id,
            expires_at=now + timedelta(days=days),
        )
        await session.insert()

    assert await cleanup_expired_sessions() == {"status": "completed", "deleted_count": 3}
    left = await Session.find_all().to_list()
    assert {session.token_hash for session in left} == {"3", "4"}


async def test_blobs_with_a_record_are_kept(db):
    blob = await blob_service.upload(b"kept", "kept.txt")

    assert await cleanup_orphaned_blobs() == {"status": "completed", "deleted_count": 0}
    assert await blob_service.download(str(blob.id)) == b"kept"


async def test_expired_blobs_are_deleted_with_their_files(db, settings):
    # Otherwise MongoDB might delete the record first.
    await BlobModel.get_pymongo_collection().drop_indexes()
    kept = await blob_service.upload(b"kept", "kept.txt", expires=60)
    expired = await blob_service.upload(b"expired", "expired.txt", expires=60)
    folder = Path(settings.blob_url)
    yesterday = datetime.now(UTC) - timedelta(days=1, minutes=1)
    await expired.set({"expires_at": yesterday})
    for path in folder.iterdir():
        os.utime(path, (yesterday.timestamp(), yesterday.timestamp()))

    assert await cleanup_orphaned_blobs() == {"status": "completed", "deleted_count": 1}
    assert [path.name for path in folder.iterdir()] == [str(kept.id)]
    assert await BlobModel.count() == 1


async def test_cleanup_on_a_real_worker(db, running_worker):
    for task in (cleanup_expired_sessions, cleanup_orphaned_blobs, cleanup_old_history):
        job = await task.enqueue()
        assert await job.result(timeout=30) == {"status": "completed", "deleted_count": 0}


async def test_expired_runs_are_deleted(db):
    await RunModel.get_pymongo_collection().drop_indexes()
    now = datetime.now(UTC)
    for days in (-1, 1):
        run = RunModel(
            job_id=str(days),
            task="t",
            attempt=1,
            ended_as="failed",
            started_at=now,
            seconds=1,
            correlation_id="c",
            expires_at=now + timedelta(days=days),
        )
        await run.insert()

    assert await cleanup_old_history() == {"status": "completed", "deleted_count": 1}
    assert [run.job_id for run in await RunModel.find_all().to_list()] == ["1"]


async def test_dead_letters_are_deleted_long_after_the_decision(db):
    now = datetime.now(UTC)
    letters = [("dead", 400), ("replayed", 91), ("discarded", 91), ("replayed", 89)]
    for number, (state, days) in enumerate(letters):
        letter = DeadLetterModel(
            id=str(number),
            job_id="1",
            error_type="E",
            error="",
            attempts=1,
            died_at=now - timedelta(days=days),
            state=DeadLetterState(state),
        )
        await letter.insert()

    assert await cleanup_old_history() == {"status": "completed", "deleted_count": 2}
    left = await DeadLetterModel.find_all().to_list()
    assert {letter.id for letter in left} == {"0", "3"}


async def test_old_audit_entries_are_deleted(db):
    now = datetime.now(UTC)
    for days in (366, 364):
        await audit_log("tested", timestamp=now - timedelta(days=days), days=days)

    assert await cleanup_old_history() == {"status": "completed", "deleted_count": 1}
    (entry,) = await AuditModel.find_all().to_list()
    assert entry.details == {"days": 364}

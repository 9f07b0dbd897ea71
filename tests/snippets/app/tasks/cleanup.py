# cleanup.py
from datetime import datetime, timedelta
from app.models.session import Session
from app.tasks.worker import worker

@worker.task()
async def cleanup_expired_sessions() -> dict:
    """Remove expired sessions from database."""

    cutoff = datetime.now() - timedelta(days=30)

    expired = await Session.find(
        Session.expires_at < cutoff
    ).to_list()

    for session in expired:
        await session.delete()

    return {
        "status": "completed",
        "deleted_count": len(expired)
    }

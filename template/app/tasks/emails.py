"""E-mails, sent as jobs."""

from datetime import UTC, date, datetime, time, timedelta

from core.config import get_settings
from core.models import BlobModel, UserModel
from core.services.email import render_email, send_email
from core.tasks import Sensitive
from core.tasks.worker import worker

BATCH = 1000
SKIPPED = {"status": "skipped", "reason": "user_not_found"}


@worker.task(max_retries=5, retry_delay=30, timeout=60)
async def send_welcome_email(user_id: str) -> dict[str, str]:
    """Greet a new user."""
    user = await UserModel.get(user_id)
    return await _send(user, "Welcome!", "welcome") if user else SKIPPED


@worker.task(max_retries=5, retry_delay=30, timeout=60)
async def send_already_signed_up(user_id: str) -> dict[str, str]:
    """Tell a user that somebody has signed up with their address once more."""
    user = await UserModel.get(user_id)
    return (
        await _send(user, "You already have an account", "already_signed_up") if user else SKIPPED
    )


@worker.task(max_retries=5, retry_delay=30, timeout=60)
async def send_password_reset(user_id: str, token: Sensitive[str]) -> dict[str, str]:
    """Send the link by which a password is chosen anew. The token is encrypted in the queue and masked in logs."""
    user = await UserModel.get(user_id)
    link = get_settings().link_to(f"reset?token={token}")
    return (
        await _send(user, "Reset your password", "password_reset", link=link) if user else SKIPPED
    )


@worker.cron("0 6 * * *")
@worker.task(max_retries=3, timeout=3600, unique=True)
async def send_daily_digest() -> dict[str, str | int]:
    """Have each user told of yesterday's files: a job for each, so that one bad address does not stop the others."""
    yesterday = datetime.now(UTC).date() - timedelta(days=1)
    queued, batch = 0, list[tuple[str, date]]()
    async for user in UserModel.get_pymongo_collection().find({}, {"_id": True}, batch_size=BATCH):
        batch.append((str(user["_id"]), yesterday))
        if len(batch) == BATCH:
            queued += len(await send_digest.enqueue_many(batch))
            batch.clear()
    queued += len(await send_digest.enqueue_many(batch))
    return {"status": "completed", "queued_count": queued}


# The key keeps it at one mail, also where the task above was cut off, and queues its jobs once more.
@worker.task(
    max_retries=5,
    retry_delay=30,
    timeout=60,
    idempotency_key=lambda user_id, day: f"{user_id} {day}",
)
async def send_digest(user_id: str, day: date) -> dict[str, str]:
    """Tell one user which files were made for them on one day, in UTC; nobody is written to about none."""
    user = await UserModel.get(user_id)
    if not user:
        return SKIPPED
    start = datetime.combine(day, time(), UTC)
    files = await BlobModel.find(
        BlobModel.owner == user_id,
        BlobModel.created_at >= start,
        BlobModel.created_at < start + timedelta(days=1),
    ).to_list()
    if not files:
        return {"status": "skipped", "reason": "nothing_to_tell"}
    return await _send(
        user, f"Your files from {day}", "digest", day=day, files=[file.name for file in files]
    )


async def _send(user: UserModel, subject: str, template: str, **values: object) -> dict[str, str]:
    html, text = render_email(template, name=user.display_name, **values)
    await send_email(to_email=user.email, subject=subject, html_content=html, text_content=text)
    return {"status": "sent", "user_email": user.email}

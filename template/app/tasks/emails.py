"""Emails, sent as jobs."""

from datetime import UTC, date, datetime, time, timedelta

from app.models.unsubscription import Unsubscription
from app.services.digest import unsubscribe_link
from app.services.user_email import (
    USER_NOT_FOUND,
    email_address,
    email_user,
    show_day,
    show_time,
)
from core.config import get_settings
from core.models import BlobModel, UserModel
from core.services.accounts import InvalidToken, find_email_token
from core.tasks import Sensitive
from core.tasks.worker import worker

USER_BATCH = 1000
MAX_FILES = 50
"""Files that a digest names. A mail reader hides the end of a long email."""


@worker.task(max_retries=5, retry_delay=30, timeout=60)
async def send_confirmation(token: Sensitive[str]) -> dict[str, str]:
    """Send the link that confirms a sign-up, or say that the address has an account.

    Args:
        token: The token for the link. It is encrypted in the queue and masked in logs.
    """
    subject = f"Confirm your email address at {get_settings().service_name}"
    return await _email_link(token, "sign_up", "confirmation", subject, "confirm")


@worker.task(max_retries=5, retry_delay=30, timeout=60)
async def send_new_address(token: Sensitive[str]) -> dict[str, str]:
    """Send the link that changes an account's address, or say that the address has an account.

    Args:
        token: The token for the link.
    """
    subject = f"Confirm your new email address at {get_settings().service_name}"
    return await _email_link(token, "new_address", "new_address", subject, "new-email")


@worker.task(max_retries=5, retry_delay=30, timeout=60)
async def send_password_reset(token: Sensitive[str]) -> dict[str, str]:
    """Send the link with which a user sets a new password.

    Args:
        token: The token for the link.
    """
    subject = f"Reset your password at {get_settings().service_name}"
    return await _email_link(token, "reset", "password_reset", subject, "reset")


async def _email_link(
    token: str,
    purpose: str,
    template: str,
    subject: str,
    page: str,
) -> dict[str, str]:
    """Send a link. The email contains no name, because a stranger may have entered it."""
    try:
        found = await find_email_token(token, purpose)
    except InvalidToken:
        return {"status": "skipped", "reason": "link_expired"}
    if not found.email:
        return USER_NOT_FOUND
    needs_new_address = purpose != "reset"
    if needs_new_address and await UserModel.find_one(UserModel.email == found.email):
        template = "already_signed_up"
        subject = f"You already have an account at {get_settings().service_name}"
    return await email_address(
        found.email,
        template,
        subject,
        link=get_settings().link_to(f"{page}?token={token}"),
        until=show_time(found.expires_at),
    )


@worker.task(max_retries=5, retry_delay=30, timeout=60)
async def send_welcome_email(user_id: str) -> dict[str, str]:
    """Send a welcome email to a user whose address is confirmed.

    Args:
        user_id: The user's id.
    """
    service = get_settings().service_name
    return await email_user(user_id, "welcome", f"Welcome to {service}!")


@worker.task(max_retries=5, retry_delay=30, timeout=60)
async def send_password_changed(user_id: str) -> dict[str, str]:
    """Tell a user that the password was changed.

    Args:
        user_id: The user's id.
    """
    service = get_settings().service_name
    return await email_user(
        user_id,
        "password_changed",
        f"Your password at {service} was changed",
    )


@worker.task(max_retries=5, retry_delay=30, timeout=60)
async def send_address_changed(former_email: str) -> dict[str, str]:
    """Tell the former address of an account that the address was changed.

    Args:
        former_email: The former address.
    """
    service = get_settings().service_name
    return await email_address(
        former_email,
        "address_changed",
        f"Your email address at {service} was changed",
    )


@worker.cron("0 6 * * *")
@worker.task(max_retries=3, timeout=3600, unique=True)
async def send_daily_digest() -> dict[str, str | int]:
    """Enqueue yesterday's digest for each user.

    Each user gets a separate job, so that one invalid address does not stop the others.
    """
    yesterday = datetime.now(UTC).date() - timedelta(days=1)
    cursor = UserModel.get_pymongo_collection().find({}, {"_id": True})
    queued = 0
    while users := await cursor.to_list(USER_BATCH):
        calls = [(str(user["_id"]), yesterday) for user in users]
        jobs = await send_digest.enqueue_many(calls)
        queued += len(jobs)
    return {"status": "completed", "queued_count": queued}


@worker.task(
    max_retries=5,
    retry_delay=30,
    timeout=60,
    idempotency_key=lambda user_id, day: f"{user_id} {day}",
)
async def send_digest(user_id: str, day: date) -> dict[str, str]:
    """Send a user the list of their files from one day, unless they have unsubscribed.

    The idempotency key prevents a second email if `send_daily_digest` runs again.

    Args:
        user_id: The user's id.
        day: The day in UTC.
    """
    if not await UserModel.get(user_id):
        return USER_NOT_FOUND
    if await Unsubscription.get(user_id):
        return {"status": "skipped", "reason": "unsubscribed"}
    start = datetime.combine(day, time(), UTC)
    end = start + timedelta(days=1)
    files = await BlobModel.find(
        BlobModel.owner == user_id,
        BlobModel.created_at >= start,
        BlobModel.created_at < end,
    ).to_list()
    if not files:
        return {"status": "skipped", "reason": "no_files"}
    names = [file.name for file in files]
    return await email_user(
        user_id,
        "digest",
        f"Your files from {show_day(day)}",
        unsubscribe_link=unsubscribe_link(user_id),
        day=show_day(day),
        files=names[:MAX_FILES],
        more=len(names[MAX_FILES:]),
    )

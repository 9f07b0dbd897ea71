"""Webhooks: events, sent to their subscribers."""

import json
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import urlsplit
from uuid import uuid4

import httpx2
from pymongo.asynchronous.client_session import AsyncClientSession

from app.models.webhook import Event, Subscription
from app.services.subscriptions import note_failure, note_success, seconds_to_wait
from app.services.user_email import email_user
from app.settings import app_settings
from core.context import TaskContext
from core.database import with_transaction
from core.models import DeadLetterModel, RunModel
from core.services.audit import audit_log
from core.services.targets import TargetRefused
from core.services.webhooks import post_webhook
from core.tasks import Limit, PermanentError, RetryAfter, TransientError
from core.tasks.worker import worker

RETRYABLE_STATUSES = {408, 429}
"""The statuses below 500 that ask for another attempt."""

INVALID_URL = (TargetRefused, httpx2.InvalidURL, httpx2.UnsupportedProtocol)

# A receiver that never answers holds a slot for ten seconds. Such receivers must not hold all
# slots. Deliveries have a low priority, so no email waits behind them. No user waits for the
# receivers of another, even on a shared host.
IN_ALL = Limit(concurrency=25)
PER_USER = Limit(concurrency=8, key=lambda **_: TaskContext.get_actor())
PER_RECEIVER = Limit(
    concurrency=4,
    key=lambda url, **_: (TaskContext.get_actor(), urlsplit(url).hostname),
)


@worker.task(
    max_retries=12,
    retry_delay=2,
    timeout=60,
    expires=4 * 3600,
    priority="low",
    limit=[IN_ALL, PER_USER, PER_RECEIVER],
)
async def deliver_event(url: str, event_id: str) -> dict[str, str | int]:
    """Send a stored event to a subscriber. It raises the errors of `deliver_webhook`.

    While the receiver fails, events wait without an attempt, for up to four hours.

    Args:
        url: The receiver's URL.
        event_id: The event's id.
    """
    event = await Event.find_one(Event.id == event_id, Event.owner == TaskContext.get_actor())
    if not event:  # a replay, days later
        return {"status": "skipped", "reason": "event_not_found"}
    return await deliver_webhook(url, json.loads(event.payload))


async def deliver_webhook(url: str, payload: dict[str, Any]) -> dict[str, str | int]:
    """Send a signed event to a subscriber of the user who published it.

    Args:
        url: The receiver's URL.
        payload: The event.

    Raises:
        PermanentError: The URL is not allowed, or the receiver rejected the event.
        RetryAfter: The receiver has failed, and gets a pause.
        TransientError: The receiver failed, or asked for another attempt.
        httpx2.HTTPError: The receiver cannot be reached.
        TimeoutError: The receiver did not answer in time.
    """
    subscription = await Subscription.find_one(
        Subscription.url == url,
        Subscription.owner == TaskContext.get_actor(),
    )
    if not subscription:
        return {"status": "skipped", "reason": "not_subscribed"}
    if subscription.switched_off_at:
        return {"status": "skipped", "reason": "switched_off"}
    pause = seconds_to_wait(subscription)
    if pause:
        raise RetryAfter(pause)
    try:
        status = await _send(subscription, payload)
    except Exception:
        if await note_failure(subscription):
            await _switch_off(subscription)
        raise
    await note_success(subscription)
    return {"status": "delivered", "status_code": status}


@worker.cron("15 * * * *")
@worker.task(max_retries=3, timeout=600, unique=True)
async def cleanup_old_deliveries() -> dict[str, str | int]:
    """Delete the dead letters and the history of deliveries whose events no longer exist.

    Users choose the receivers. Receivers that fail could otherwise fill the database.
    """
    oldest = datetime.now(UTC) - timedelta(seconds=app_settings.event_retention)
    deleted = 0
    for model, time in ((DeadLetterModel, "died_at"), (RunModel, "started_at")):
        query = {"task": deliver_event.name, time: {"$lt": oldest}}
        result = await model.get_pymongo_collection().delete_many(query)
        deleted += result.deleted_count
    return {"status": "completed", "deleted_count": deleted}


async def _send(subscription: Subscription, payload: dict[str, Any]) -> int:
    """Send an event, and return the status of the answer, which is below 300."""
    url = subscription.url
    try:
        status = await post_webhook(
            worker.context.public_client,
            url,
            body=json.dumps(payload),
            secret=subscription.secret,
            message_id=str(payload.get("id") or uuid4()),
        )
    except INVALID_URL as error:
        raise PermanentError(str(error)) from error
    if status >= 500 or status in RETRYABLE_STATUSES:
        raise TransientError(f"{url} answered {status}")
    if status >= 300:
        raise PermanentError(f"{url} answered {status}")
    return status


async def _switch_off(subscription: Subscription) -> None:
    """Switch off a subscription, and tell its owner once."""

    async def switch_off(session: AsyncClientSession) -> None:
        is_on = {"_id": subscription.id, "switched_off_at": None}
        change = {"$currentDate": {"switched_off_at": True}}
        collection = Subscription.get_pymongo_collection()
        changed = await collection.update_one(is_on, change, session=session)
        if changed.modified_count:
            await audit_log("webhook.switched_off", url=subscription.url)
            await send_webhook_switched_off.enqueue(subscription.owner, subscription.url)

    await with_transaction(switch_off)


@worker.task(max_retries=5, retry_delay=30, timeout=60)
async def send_webhook_switched_off(user_id: str, url: str) -> dict[str, str]:
    """Tell a user that a webhook no longer gets events, because its receiver fails.

    Args:
        user_id: The user's id.
        url: The URL.
    """
    subject = "We no longer send events to one of your webhooks"
    return await email_user(user_id, "webhook_switched_off", subject, url=url)

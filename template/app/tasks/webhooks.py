"""Webhooks: events, sent to their subscribers."""

import json
from typing import Any

import httpx2

from app.models.webhook import Subscription
from core.context import TaskContext
from core.services.targets import TargetRefused
from core.services.webhooks import post_webhook
from core.tasks import PermanentError, TransientError, current_job
from core.tasks.worker import worker

RETRYABLE_STATUSES = {408, 429}
"""The statuses below 500 that ask for another attempt."""

INVALID_URL = (TargetRefused, httpx2.InvalidURL, httpx2.UnsupportedProtocol)


@worker.task(max_retries=12, retry_delay=2, timeout=60)
async def deliver_webhook(
    url: str,
    payload: dict[str, Any],
) -> dict[str, str | int]:
    """Send a signed event to a subscriber of the user who published it.

    Args:
        url: The receiver's URL.
        payload: The event.

    Raises:
        PermanentError: The URL is not allowed, or the receiver rejected the event.
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
    try:
        status = await post_webhook(
            worker.context.public_client,
            url,
            body=json.dumps(payload),
            secret=subscription.secret,
            message_id=str(payload.get("id") or current_job().id),
        )
    except INVALID_URL as error:
        raise PermanentError(str(error)) from error
    if status >= 500 or status in RETRYABLE_STATUSES:
        raise TransientError(f"{url} answered {status}")
    if status >= 300:
        raise PermanentError(f"{url} answered {status}")
    return {"status": "delivered", "status_code": status}

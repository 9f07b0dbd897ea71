"""Webhooks: events, sent to whoever has subscribed to them."""

import json
from typing import Any

import httpx2

from app.models.webhook import Subscription
from core.context import TaskContext
from core.services.targets import TargetRefused
from core.services.webhooks import post_webhook
from core.tasks import PermanentError, TransientError, current_job
from core.tasks.worker import worker

ONCE_MORE = {408, 429}
"""Of the statuses from 400 to 499, these tell to come back later."""


@worker.task(max_retries=12, retry_delay=2, timeout=60)
async def deliver_webhook(url: str, payload: dict[str, Any]) -> dict[str, str | int]:
    """Send a signed event to one of the subscribers of whoever published it, again and again while it is not well."""
    subscription = await Subscription.find_one(
        Subscription.url == url, Subscription.owner == TaskContext.get_actor()
    )
    if not subscription:
        return {"status": "skipped", "reason": "not_subscribed"}

    message_id = str(payload.get("id") or current_job().id)
    client = worker.context.public_client
    try:
        status = await post_webhook(
            client, url, json.dumps(payload), subscription.secret, message_id
        )
    except (TargetRefused, httpx2.InvalidURL, httpx2.UnsupportedProtocol) as error:
        raise PermanentError(str(error)) from error
    if status >= 500 or status in ONCE_MORE:
        raise TransientError(f"{url} answered {status}")
    if status >= 300:
        raise PermanentError(f"{url} answered {status}")
    return {"status": "delivered", "status_code": status}

"""Webhooks, signed as the Standard Webhooks specification says (https://www.standardwebhooks.com)."""

import asyncio
import base64
import secrets
from datetime import UTC, datetime

import httpx2
from standardwebhooks import Webhook

from core.context import TaskContext
from core.services.targets import TIMEOUT_SECONDS

__all__ = ["new_webhook_secret", "post_webhook"]

SECRET_BYTES = 32


def new_webhook_secret() -> str:
    """A secret for one receiver, who verifies our signatures with it."""
    return f"whsec_{base64.b64encode(secrets.token_bytes(SECRET_BYTES)).decode()}"


async def post_webhook(
    client: httpx2.AsyncClient, url: str, body: str, secret: str, message_id: str
) -> int:
    """Send a signed message. What the receiver answers beside its status is not read.

    Args:
        client: One of `open_public_client`; in a task, `worker.context.public_client`.
        url: Where to.
        body: JSON.
        secret: Of `new_webhook_secret`.
        message_id: The same at each attempt, so that the receiver can tell a repetition.

    Returns:
        The status of the answer.

    Raises:
        TargetRefused: The address is not on the public internet.
        httpx2.HTTPError: It cannot be reached.
        TimeoutError: It took longer than `TIMEOUT_SECONDS`.
    """
    now = datetime.now(UTC)
    headers = {
        "content-type": "application/json",
        "webhook-id": message_id,
        "webhook-timestamp": str(int(now.timestamp())),
        "webhook-signature": Webhook(secret).sign(message_id, now, body),
    }
    if correlation_id := TaskContext.get_correlation_id():
        headers["x-request-id"] = correlation_id
    # The client's own timeout is for each read and write, of which there can be many.
    async with (
        asyncio.timeout(TIMEOUT_SECONDS),
        client.stream("POST", url, content=body, headers=headers) as response,
    ):
        return response.status_code

"""Webhooks, signed as in the Standard Webhooks specification (https://www.standardwebhooks.com)."""

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
    """Return a new secret, with which one receiver verifies signatures."""
    secret = base64.b64encode(secrets.token_bytes(SECRET_BYTES)).decode()
    return f"whsec_{secret}"


async def post_webhook(
    client: httpx2.AsyncClient,
    url: str,
    body: str,
    secret: str,
    message_id: str,
) -> int:
    """Send a signed message. The body of the response is not read.

    Args:
        client: A client from `open_public_client`. In a task, `worker.context.public_client`.
        url: The receiver's URL.
        body: The message as JSON.
        secret: The receiver's secret, from `new_webhook_secret`.
        message_id: The message's id. Retries use the same id, so the receiver can detect them.

    Returns:
        The status code of the response.

    Raises:
        TargetRefused: The URL does not lead to the public internet.
        httpx2.HTTPError: The receiver cannot be reached.
        TimeoutError: The request took longer than `TIMEOUT_SECONDS`.
    """
    now = datetime.now(UTC)
    headers = {
        "content-type": "application/json",
        "webhook-id": message_id,
        "webhook-timestamp": str(int(now.timestamp())),
        "webhook-signature": Webhook(secret).sign(message_id, now, body),
    }
    correlation_id = TaskContext.get_correlation_id()
    if correlation_id:
        headers["x-request-id"] = correlation_id
    request = client.stream("POST", url, content=body, headers=headers)
    # The client's timeout limits each read and write, not the whole request.
    async with asyncio.timeout(TIMEOUT_SECONDS), request as response:
        return response.status_code

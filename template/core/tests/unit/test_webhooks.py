"""Webhooks: a receiver that does not answer causes no long wait."""

import asyncio

import pytest

from core.services.targets import open_public_client
from core.services.webhooks import new_webhook_secret, post_webhook


async def test_a_receiver_that_does_not_answer_is_not_waited_for(settings, monkeypatch):
    monkeypatch.setattr(settings, "environment", "development")  # a receiver on this machine
    monkeypatch.setattr("core.services.webhooks.TIMEOUT_SECONDS", 0.2)
    released = asyncio.Event()

    async def hold(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await released.wait()
        writer.close()

    server = await asyncio.start_server(hold, "127.0.0.1", 0)
    url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/hook"
    async with server, open_public_client() as client:
        try:
            with pytest.raises(TimeoutError):
                await post_webhook(client, url, "{}", new_webhook_secret(), "message-1")
        finally:
            released.set()

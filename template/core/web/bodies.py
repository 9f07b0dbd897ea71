"""Limits of the bodies of requests, besides their size."""

import asyncio
from time import monotonic

from fastapi import HTTPException
from pydantic_core import from_json
from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from core.config import get_settings

BYTES_PER_SECOND = 1000
MAX_LEVELS = 100
PARSER_LEVELS = 201
"""The limit of pydantic-core, which cannot be set. Job messages need some levels of it."""


class BodyMiddleware:
    """Refuses bodies that arrive too slowly (408), and JSON that is invalid or too deep (422).

    Args:
        app: The application to wrap.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        seconds = limit = get_settings().client_timeout
        is_json = "json" in Headers(scope=scope).get("content-type", "").lower()
        content = bytearray()
        is_complete = False

        async def receive_in_time() -> Message:
            nonlocal seconds, is_complete
            if is_complete:  # the application waits until the client disconnects
                return await receive()
            began = monotonic()
            try:
                async with asyncio.timeout(seconds):
                    message = await receive()
            except TimeoutError:
                close = {"Connection": "close"}
                raise HTTPException(408, "The request arrived too slowly.", close) from None
            piece = message.get("body", b"")
            seconds += len(piece) / BYTES_PER_SECOND - (monotonic() - began)
            seconds = min(seconds, limit)  # a quick client gets no time to stall later
            is_complete = not message.get("more_body")
            if is_json and message["type"] == "http.request":
                content.extend(piece)
                if is_complete and content:
                    _check_json(content)
            return message

        await self._app(scope, receive_in_time, send)


def _check_json(content: bytearray) -> None:
    """Parse JSON with a limit of its depth, which FastAPI's parser does not have."""
    if content.count(b"[") + content.count(b"{") <= MAX_LEVELS:
        return
    spare = PARSER_LEVELS - MAX_LEVELS
    try:
        from_json(b"[" * spare + content + b"]" * spare)
    except ValueError as error:
        reason = str(error).partition(" at line")[0]
        problem = {"type": "json_invalid", "loc": ["body"], "msg": f"Invalid JSON: {reason}"}
        raise HTTPException(422, [problem]) from None

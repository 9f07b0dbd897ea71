"""A limit of the depth of JSON in the bodies of requests."""

from fastapi import HTTPException
from pydantic_core import from_json
from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

MAX_LEVELS = 100
PARSER_LEVELS = 201
"""The limit of pydantic-core, which cannot be set. Job messages need some levels of it."""


class BodyMiddleware:
    """Refuses JSON that is invalid or too deep (422). FastAPI's parser has no limit of the depth.

    Args:
        app: The application to wrap.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        content = bytearray()

        async def receive_and_check() -> Message:
            message = await receive()
            content.extend(message.get("body", b""))
            if message["type"] == "http.request" and not message.get("more_body"):
                _check_json(content)
            return message

        is_http = scope["type"] == "http"
        is_json = is_http and "json" in Headers(scope=scope).get("content-type", "").lower()
        await self._app(scope, receive_and_check if is_json else receive, send)


def _check_json(content: bytearray) -> None:
    if content.count(b"[") + content.count(b"{") <= MAX_LEVELS:
        return
    spare = PARSER_LEVELS - MAX_LEVELS
    try:
        from_json(b"[" * spare + content + b"]" * spare)
    except ValueError as error:
        reason = str(error).partition(" at line")[0]
        problem = {"type": "json_invalid", "loc": ["body"], "msg": f"Invalid JSON: {reason}"}
        raise HTTPException(422, [problem]) from None

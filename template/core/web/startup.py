"""The start of the application in uvicorn. A `UserError` ends it with one line."""

import logging

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from core.errors import UserError


class StartedApp:
    """An application that keeps the `UserError` with which its start failed.

    uvicorn would log the error with its traceback.

    Args:
        app: The application.

    Attributes:
        error: The error, or None if the application has started.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app
        self.error: UserError | None = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self._start(scope, receive, send)
        else:
            await self._app(scope, receive, send)

    async def _start(self, scope: Scope, receive: Receive, send: Send) -> None:
        traceback: list[Message] = []

        async def keep_traceback(message: Message) -> None:
            if message["type"] == "lifespan.startup.failed":
                traceback.append(message)
            else:
                await send(message)

        try:
            await self._app(scope, receive, keep_traceback)
        except BaseException as error:  # uvicorn would serve without the lifespan
            if not traceback:
                raise
            if not isinstance(error, UserError):
                await send(traceback[0])
                raise
            self.error = error
            # uvicorn would add that the start failed, and nothing else.
            logging.getLogger("uvicorn.error").disabled = True
            await send({"type": "lifespan.startup.failed"})

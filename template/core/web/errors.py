"""What a client sees when something is down, broken or too much: a status and one clear line, never a traceback."""

import json
import math

from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse

from core.context import TaskContext
from core.database import DOWN
from core.logging import get_logger
from core.services.limits import TooManyRequests
from core.tasks import QueueUnavailable

logger = get_logger(__name__)

RETRY_AFTER_SECONDS = 2


def add_error_handlers(app: FastAPI) -> None:
    """Answer 503 while a server is down, 429 to what comes too often, and 500 with its id to what nobody expected."""
    for error in DOWN:
        app.add_exception_handler(error, _unavailable("database"))
    app.add_exception_handler(QueueUnavailable, _unavailable("queue"))
    app.add_exception_handler(TooManyRequests, _too_many)
    app.add_exception_handler(RequestValidationError, _invalid)
    app.add_exception_handler(Exception, _internal_error)


def _unavailable(what: str):  # type: ignore[no-untyped-def]  # Starlette's own type for handlers fits no function
    async def handle(_: Request, error: Exception) -> JSONResponse:
        logger.warning("request refused", unavailable=what, error=str(error)[:200])
        body = {
            "detail": f"The {what} is not available; try again in a moment.",
            "unavailable": what,
        }
        return JSONResponse(body, 503, headers={"Retry-After": str(RETRY_AFTER_SECONDS)})

    return handle


async def _invalid(_: Request, error: Exception) -> Response:
    """What is wrong where; without what was sent, which may be a password, or no text that can be sent back."""
    assert isinstance(error, RequestValidationError)
    problems = [{key: each[key] for key in ("type", "loc", "msg")} for each in error.errors()]
    return Response(json.dumps({"detail": problems}), 422, media_type="application/json")


async def _too_many(_: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, TooManyRequests)
    return JSONResponse(
        {"detail": str(error)}, 429, headers={"Retry-After": str(math.ceil(error.retry_after))}
    )


async def _internal_error(_: Request, error: Exception) -> JSONResponse:
    correlation_id = TaskContext.get_correlation_id() or ""
    body = {
        "detail": "Internal error; the log tells more under this id.",
        "correlation_id": correlation_id,
    }
    return JSONResponse(body, 500, headers={"X-Request-ID": correlation_id})

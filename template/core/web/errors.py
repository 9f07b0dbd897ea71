"""Responses to errors: a status and one clear line, never a traceback."""

import json
import math
from typing import Any

from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse

from core.context import TaskContext
from core.database import CONNECTION_ERRORS
from core.logging import get_logger
from core.services.limits import TooManyRequests
from core.tasks import QueueUnavailable

logger = get_logger(__name__)

RETRY_AFTER_SECONDS = 2


def add_error_handlers(app: FastAPI) -> None:
    """Add handlers for servers that are down, rate limits, invalid requests and other errors.

    Args:
        app: The application.
    """
    for error in CONNECTION_ERRORS:
        app.add_exception_handler(error, _database_down)
    app.add_exception_handler(QueueUnavailable, _queue_down)
    app.add_exception_handler(TooManyRequests, _rate_limited)
    app.add_exception_handler(RequestValidationError, _invalid)
    app.add_exception_handler(Exception, _internal_error)


async def _database_down(_: Request, error: Exception) -> Response:
    return _unavailable("database", error)


async def _queue_down(_: Request, error: Exception) -> Response:
    return _unavailable("queue", error)


def _unavailable(server: str, error: Exception) -> Response:
    reason = str(error)[:200]
    logger.warning("request refused", unavailable=server, error=reason)
    body = {
        "detail": f"The {server} is unavailable. Try again in a moment.",
        "unavailable": server,
    }
    headers = {"Retry-After": str(RETRY_AFTER_SECONDS)}
    return JSONResponse(body, 503, headers)


async def _invalid(_: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)
    problems = [_without_input(problem) for problem in error.errors()]
    # Unlike JSONResponse, `json.dumps` escapes text that UTF-8 cannot encode.
    body = json.dumps({"detail": problems})
    return Response(body, 422, media_type="application/json")


def _without_input(problem: dict[str, Any]) -> dict[str, Any]:
    """Return the parts of a problem to send back. The input may be a password."""
    return {
        "type": problem["type"],
        "loc": problem["loc"],
        "msg": problem["msg"],
    }


async def _rate_limited(_: Request, error: Exception) -> Response:
    assert isinstance(error, TooManyRequests)
    seconds = math.ceil(error.retry_after)
    headers = {"Retry-After": str(seconds)}
    return JSONResponse({"detail": str(error)}, 429, headers)


async def _internal_error(_: Request, error: Exception) -> Response:
    correlation_id = TaskContext.get_correlation_id() or ""
    body = {
        "detail": "Internal error. Search the log for this correlation id.",
        "correlation_id": correlation_id,
    }
    headers = {"X-Request-ID": correlation_id}
    return JSONResponse(body, 500, headers)

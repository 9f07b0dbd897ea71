"""Responses to errors: a status and one clear line, never a traceback."""

import json
import math
from collections.abc import Mapping
from functools import partial
from typing import TypeAlias

from fastapi import Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse

from core.context import TaskContext
from core.database import CONNECTION_ERRORS, summarize_error
from core.entry import ExceptionHandler
from core.logging import get_logger
from core.services.limits import TooManyRequests
from core.tasks import QueueUnavailable
from core.web.security import HEADERS

Handlers: TypeAlias = dict[int | type[Exception], ExceptionHandler]

logger = get_logger(__name__)

RETRY_AFTER_SECONDS = 2
PROBLEM_FIELDS = ("type", "loc", "msg")


def make_error_handlers(
    own: Mapping[int | type[Exception], ExceptionHandler],
) -> Handlers:
    """Return the exception handlers of the service and of `core`.

    The handler of `Exception` answers all errors that no other handler answers.

    Args:
        own: The service's own handlers, which replace handlers of `core`.
    """
    handlers: Handlers = {
        **dict.fromkeys(CONNECTION_ERRORS, partial(_unavailable, "database")),
        QueueUnavailable: partial(_unavailable, "queue"),
        TooManyRequests: _rate_limited,
        RequestValidationError: _invalid,
        Exception: _internal_error,
        **own,
    }
    # Starlette uses both keys for the same handler.
    handlers[Exception] = handlers.pop(500, handlers[Exception])
    return handlers


async def _unavailable(server: str, _: Request, error: Exception) -> Response:
    reason = summarize_error(error)
    logger.warning("request refused", unavailable=server, error=reason)
    body = {
        "detail": f"The {server} is unavailable. Try again in a moment.",
        "unavailable": server,
    }
    headers = {"Retry-After": str(RETRY_AFTER_SECONDS)}
    return JSONResponse(body, 503, headers)


async def _invalid(_: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)
    # The input is left out, because it may be a password.
    problems = [{name: problem[name] for name in PROBLEM_FIELDS} for problem in error.errors()]
    # Unlike JSONResponse, `json.dumps` escapes text that UTF-8 cannot encode.
    body = json.dumps({"detail": problems})
    return Response(body, 422, media_type="application/json")


async def _rate_limited(_: Request, error: Exception) -> Response:
    assert isinstance(error, TooManyRequests)
    seconds = math.ceil(error.retry_after)
    headers = {"Retry-After": str(seconds)}
    return JSONResponse({"detail": str(error)}, 429, headers)


async def _internal_error(_: Request, error: Exception) -> Response:
    body = {
        "detail": "Internal error. Search the log for this correlation id.",
        "correlation_id": TaskContext.get_correlation_id(),
    }
    return JSONResponse(body, 500)


async def answer_broken_middleware(request: Request, error: Exception) -> Response:
    """Answer an exception of a middleware, outside the middleware that adds the correlation id.

    Args:
        request: The request.
        error: The exception.
    """
    response = await _internal_error(request, error)
    response.headers["X-Request-ID"] = TaskContext.get_correlation_id() or ""
    response.headers.update(HEADERS)
    return response

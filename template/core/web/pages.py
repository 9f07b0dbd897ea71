"""HTML pages of `core`, rendered from `core/web/templates/`, and their files."""

import re
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any, TypeAlias

from fastapi import APIRouter, HTTPException, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.routing import APIRoute
from fastapi.staticfiles import StaticFiles
from fastapi.templating import Jinja2Templates
from starlette.routing import Match
from starlette.types import Scope

from core.config import get_settings
from core.database import CONNECTION_ERRORS, summarize_error
from core.errors import UserError
from core.logging import get_logger
from core.tasks import QueueUnavailable
from core.web.errors import RETRY_AFTER_SECONDS

AnswerRequest: TypeAlias = Callable[[Request], Coroutine[Any, Any, Response]]

logger = get_logger(__name__)

NOT_VALID = "The address or the form has a value that is not valid. Go back, and correct it."
OUTAGE = (
    "The {} cannot be reached. Try again in a moment. If the problem stays, "
    "check that the server runs, and that {} has its address."
)
FOLDER = Path(__file__).parent
POLICY = "default-src 'none'; {}base-uri 'none'; form-action 'self'; frame-ancestors 'none'"
PAGE_POLICY = POLICY.format("style-src 'self'; img-src 'self'; frame-src 'self'; ")
LOOPBACK = {"127.0.0.1", "::1", "::ffff:127.0.0.1"}
LOCAL_HOST = re.compile(r"(localhost|127\.0\.0\.1|\[::1\])(:\d+)?", re.ASCII)
FORWARDED = re.compile(r"forwarded|via|x-real-ip|x-forwarded-.*")

_files = StaticFiles(directory=FOLDER / "static")
_templates = Jinja2Templates(FOLDER / "templates")


class PathRouter(APIRouter):
    """A router that leaves other paths to the next router after one comparison.

    FastAPI compares the path of a request with each route of a router, and takes 1 µs for each one.

    Args:
        path: The start of all paths of this router.
        **options: The options of `APIRouter`.
    """

    def __init__(self, path: str, **options: Any) -> None:
        super().__init__(**options)
        self._path = path

    def matches(self, scope: Scope) -> tuple[Match, Scope]:
        """Return whether a route matches the path of a request."""
        if self._path not in scope["path"]:  # a proxy may add a path in front of it
            return Match.NONE, {}
        return super().matches(scope)


files_router = PathRouter("/core-static", include_in_schema=False)


@files_router.get("/core-static/{name}")
async def show_file(request: Request, name: str) -> Response:
    """Return a file of `core/web/static/`. Browsers decompress the files with `.gz`."""
    response = await _files.get_response(name, request.scope)
    response.headers["Cache-Control"] = "no-cache"
    if name.endswith(".gz"):
        response.headers["Content-Encoding"] = "gzip"
    return response


def show_page(
    request: Request, template: str, status: int = 200, policy: str = PAGE_POLICY, **values: object
) -> Response:
    """Return a page.

    Args:
        request: The request.
        template: The name of the template, without `.html`.
        status: The response's status.
        policy: The content security policy.
        **values: The template's variables. `service_name` and `root` are always set.
    """
    values |= {"service_name": get_settings().service_name, "root": find_root(request)}
    headers = {"Cache-Control": "no-store", "Content-Security-Policy": policy}
    return _templates.TemplateResponse(request, f"{template}.html", values, status, headers)


class PageRoute(APIRoute):
    """A route that answers errors with a page."""

    def get_route_handler(self) -> AnswerRequest:
        """Return the function that answers requests."""
        answer = super().get_route_handler()

        async def answer_with_page(request: Request) -> Response:
            try:
                return await answer(request)
            except HTTPException as error:
                response = _show_error(request, error.status_code, error.detail)
                response.headers.update(error.headers or {})
                return response
            except RequestValidationError:
                return _show_error(request, 422, NOT_VALID)
            except CONNECTION_ERRORS as error:
                return _show_outage(request, error, "database", "MONGODB_URL")
            except QueueUnavailable as error:
                return _show_outage(request, error, "queue's server", "REDIS_URL")
            except UserError as error:
                return _show_error(request, 404, f"{error}.")

        return answer_with_page


def _show_outage(request: Request, error: Exception, server: str, setting: str) -> Response:
    logger.warning("request refused", unavailable=server, error=summarize_error(error))
    response = _show_error(request, 503, OUTAGE.format(server, setting))
    response.headers["Retry-After"] = str(RETRY_AFTER_SECONDS)
    return response


def _show_error(request: Request, status: int, problem: str) -> Response:
    return show_page(request, "console_error", status, code=status, problem=shorten(problem, 500))


def shorten(text: object, length: int = 120) -> str:
    """Return the start of a text, without characters that are invisible or change its direction."""
    shown = "".join(each if each.isprintable() else " " for each in str(text)[: length + 1])
    return shown if len(shown) <= length else f"{shown[: length - 1]}…"


def find_root(request: Request) -> str:
    """Return the path under which a proxy serves this service, without a slash at its end."""
    return str(request.scope.get("root_path", "")).rstrip("/")


async def require_local(request: Request) -> None:
    """Answer 404 to other machines, to proxies, and to requests that name another host.

    A request with another `Origin` is refused, because CORS may let that page read the answer.

    Raises:
        HTTPException: 404, as for a path that does not exist.
    """
    client = request.client.host if request.client else ""
    host = request.headers.get("host", "").lower()
    _, _, origin = request.headers.get("origin", f"://{host}").partition("://")
    is_forwarded = any(FORWARDED.fullmatch(name) for name in request.headers)
    is_own = origin == host and LOCAL_HOST.fullmatch(host)
    if client not in LOOPBACK or is_forwarded or not is_own:
        raise HTTPException(404)

"""Who may use the console: administrators, and viewers, who may look but not act."""

from collections.abc import Awaitable, Callable
from typing import Annotated, Any
from urllib.parse import urlsplit

from fastapi import Depends, FastAPI, HTTPException, Request

from core.config import Settings
from core.entry import Service
from core.models import UserModel
from core.web.auth import current_user
from core.web.console.page import LOOK, Console, find_base, log_in_url

LOG_IN = "Log in first."
CLOSED = (
    "Only administrators and viewers may open the console. "
    "`just admin EMAIL` makes an administrator, and `just admin EMAIL --role viewer` a viewer."
)
NO_ACTION = "Viewers may look at the console, but not act. Ask an administrator."
OTHER_PAGE = "Nothing was changed, because the request did not come from a page of the console."


def open_console(
    app: FastAPI,
    service: Service,
    settings: Settings,
) -> Callable[..., Awaitable[None]]:
    """Return the dependency of all pages. It refuses users who may not open the console."""
    log_in = service.current_user or _log_in

    async def require_database() -> None:
        app.state.database.require()

    async def enter(
        request: Request,
        _: Annotated[None, Depends(require_database)],
        user: Annotated[Any, Depends(log_in)],
    ) -> None:
        may_act = bool(getattr(user, "is_admin", False))
        if not may_act and not getattr(user, "is_viewer", False):
            raise HTTPException(403, CLOSED)
        if request.method == "POST":
            _check_origin(request, settings)
            if not may_act and LOOK not in request.scope["route"].tags:
                raise HTTPException(403, NO_ACTION)
        has_log_in = service.current_user is None
        console = Console(request, service.worker, settings, user, may_act, has_log_in)
        request.state.console = console

    return enter


async def _log_in(request: Request) -> UserModel:
    """Return the logged-in user, or redirect to the log-in page."""
    try:
        return await current_user(request)
    except HTTPException:
        if "hx-request" in request.headers:
            # htmx then reloads the page, and this redirects it to the log-in page.
            raise HTTPException(401, LOG_IN, {"HX-Refresh": "true"}) from None
        is_form = request.method == "POST"
        back = find_base(request) if is_form else request.url.replace(scheme="", netloc="")
        raise HTTPException(303, LOG_IN, {"Location": log_in_url(request, str(back))}) from None


def _check_origin(request: Request, settings: Settings) -> None:
    """Check that a page of this host sent the form. An origin that CORS allows may not act here."""
    site = request.headers.get("sec-fetch-site")
    _, _, host = request.headers.get("origin", "").partition("://")
    own = (request.headers.get("host"), urlsplit(str(settings.public_url)).netloc)
    if site != "same-origin" if site else not host or host not in own:
        raise HTTPException(403, OTHER_PAGE)

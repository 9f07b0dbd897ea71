"""The log-in page of the console. It starts the same session as `POST /login`."""

import math
import re
from contextlib import suppress
from typing import Annotated
from urllib.parse import unquote

from fastapi import Form, HTTPException, Request, Response
from fastapi.responses import RedirectResponse
from pydantic import EmailStr, Field

from core.config import get_settings
from core.services.accounts import MAX_PASSWORD, WrongCredentials, log_in
from core.services.limits import TooManyRequests
from core.web.auth import ClientAddress, DeviceCookie, current_user, sign_in, sign_out
from core.web.console_port import CONSOLE
from core.web.pages import PageRoute, PathRouter, find_root, show_page

# Printable ASCII without a backslash, which browsers read as a slash.
NEXT = re.compile(r"/console([/?][!-\[\]-~]{0,2000})?", re.ASCII)
Text = Annotated[str, Form()]
# Text that is not an address is treated as a wrong address.
Email = Annotated[EmailStr | str, Form(), Field(union_mode="left_to_right")]

login_router = PathRouter(
    CONSOLE,
    prefix=CONSOLE,
    include_in_schema=False,
    route_class=PageRoute,
)


@login_router.get("/login")
async def show_login(request: Request, next: str = CONSOLE, again: bool = False) -> Response:
    """Show the form, and who is logged in. With `again`, a session is not enough."""
    user = None
    with suppress(HTTPException):
        user = await current_user(request)
    path = _find_next(request, next)
    return show_page(request, "login", next=path, user=user, again=again)


@login_router.post("/login")
async def login(
    request: Request,
    client: ClientAddress,
    email: Email = "",
    password: Text = "",
    next: Text = CONSOLE,
    device: DeviceCookie = None,
) -> Response:
    """Start a session and open the page `next`."""
    values = {"next": _find_next(request, next), "email": email[:254]}
    try:
        # A password that is too long stays too long, so it is still wrong.
        user = await log_in(values["email"], password[: MAX_PASSWORD + 1], client, device)
    except WrongCredentials:
        return show_page(request, "login", 401, error=True, **values)
    except TooManyRequests as error:
        minutes = math.ceil(error.retry_after / 60)
        page = show_page(request, "login", 429, minutes=minutes, **values)
        page.headers["Retry-After"] = str(math.ceil(error.retry_after))
        return page
    response = RedirectResponse(find_root(request) + values["next"], 303)
    await sign_in(response, user, request)
    return response


@login_router.post("/logout")
async def logout(request: Request) -> Response:
    """End the session and show the log-in page."""
    response = RedirectResponse(f"{find_root(request)}/console/login", 303)
    await sign_out(request, response)
    return response


def _find_next(request: Request, path: str) -> str:
    """Return the path if it is the start page or belongs to the console; otherwise `/console`."""
    path = path.removeprefix(find_root(request))
    is_start_page = path == "/" and not get_settings().is_production
    climbs = {".", ".."}.intersection(unquote(path.partition("?")[0]).split("/"))
    return path if is_start_page or (NEXT.fullmatch(path) and not climbs) else CONSOLE

"""Authentication by the session cookie, and the dependencies of routes."""

from typing import Annotated, TypeVar

from beanie import Document
from bson import ObjectId
from fastapi import Depends, HTTPException, Request, Response

from core.config import get_settings
from core.context import TaskContext
from core.models import UserModel
from core.services.sessions import device_purpose, end_session, find_user, start_session
from core.services.signatures import sign
from core.services.tokens import new_token

D = TypeVar("D", bound=Document)

COOKIE = "session"
"""The name of the session cookie. In production it begins with `__Host-`."""

DEVICE = "device"

PAGE_HEADERS = {
    "Cache-Control": "no-store",
    "Content-Security-Policy": (
        "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'self'; "
        "frame-ancestors 'none'"
    ),
    "Referrer-Policy": "same-origin",  # with `no-referrer`, forms would send `Origin: null`
}
"""Headers for a page with a secret in its URL or content, such as a reset token."""


def _full_name(cookie: str) -> str:
    """Return a cookie's full name. With the prefix, browsers let only this host set the cookie."""
    return f"__Host-{cookie}" if get_settings().is_production else cookie


def read_session(request: Request) -> str | None:
    """Return the token of a request's session cookie, or None."""
    return _read_cookie(request, COOKIE)


def _read_cookie(request: Request, cookie: str) -> str | None:
    return request.cookies.get(_full_name(cookie))


async def current_user(request: Request) -> UserModel:
    """Return the logged-in user. Jobs that the request enqueues belong to this user.

    Args:
        request: The request with the session cookie.

    Raises:
        HTTPException: 401 if no user is logged in.
    """
    token = read_session(request)
    user = await find_user(token) if token else None
    if user is None:
        raise HTTPException(401, "Log in first.")
    TaskContext.set_actor(str(user.id))
    return user


CurrentUser = Annotated[UserModel, Depends(current_user)]
"""A route's parameter: the logged-in user. Without a session the request is answered 401."""


async def current_admin(user: CurrentUser) -> UserModel:
    """Return the logged-in administrator.

    Args:
        user: The logged-in user. A service's own class may lack the attribute `is_admin`.

    Raises:
        HTTPException: 401 if no user is logged in; 403 if the user is not an administrator.
    """
    if not getattr(user, "is_admin", False):
        raise HTTPException(403, "Administrators only.")
    return user


CurrentAdmin = Annotated[UserModel, Depends(current_admin)]
"""A route's parameter: the logged-in administrator. Other users are answered 403."""


async def find_own(model: type[D], document_id: str, user: UserModel) -> D:
    """Return a user's document. Its field `owner` must hold the user's id.

    Args:
        model: The document's class.
        document_id: The document's id, from the request.
        user: The logged-in user.

    Raises:
        HTTPException: 404 if the document does not exist or belongs to another user.
    """
    found = None
    if ObjectId.is_valid(document_id):
        query = {"_id": ObjectId(document_id), "owner": str(user.id)}
        found = await model.find_one(query)
    if found is None:
        raise HTTPException(404, "Not found.")
    return found


async def client_address(request: Request) -> str:
    """Return the network address of the client, or an empty string."""
    return request.client.host if request.client else ""


ClientAddress = Annotated[str, Depends(client_address)]
"""A route's parameter: the network address of the client.

Behind a proxy, set `FORWARDED_ALLOW_IPS` so that uvicorn trusts the proxy's headers.
"""


async def device_cookie(request: Request) -> str | None:
    """Return the device cookie of a request, or None."""
    return _read_cookie(request, DEVICE)


DeviceCookie = Annotated[str | None, Depends(device_cookie)]
"""A route's parameter: the device cookie, from a browser in which a user has logged in, or None."""


async def sign_in(response: Response, user: UserModel, request: Request | None = None) -> None:
    """Start a session, and set its cookie and the device cookie.

    The rest of the request runs for this user.

    Args:
        response: The response that sets the cookies.
        user: The user, saved.
        request: The request. The session stores its user agent, and the session of its cookie ends.
    """
    if request:
        await end_session(read_session(request))
    user_agent = request.headers.get("user-agent", "") if request else ""
    token = await start_session(user, user_agent)
    _set_cookie(response, COOKIE, token, get_settings().session_lifetime)
    remember_device(response, user)
    TaskContext.set_actor(str(user.id))


def remember_device(response: Response, user: UserModel) -> None:
    """Set the device cookie, so that the guesses of others do not lock out this browser.

    Args:
        response: The response that sets the cookie.
        user: A user who has proven who they are, for example with a link from an email.
    """
    device = sign(new_token(), device_purpose(user))
    _set_cookie(response, DEVICE, device, 365 * 86400)


def _set_cookie(response: Response, cookie: str, value: str, seconds: float) -> None:
    response.set_cookie(
        _full_name(cookie),
        value,
        max_age=round(seconds),
        httponly=True,
        secure=get_settings().is_production,
        samesite="lax",
    )


async def sign_out(request: Request, response: Response) -> None:
    """End the session of a request, and remove its cookie.

    Args:
        request: The request with the cookie.
        response: The response that removes the cookie.
    """
    await end_session(read_session(request))
    _set_cookie(response, COOKIE, "", 0)

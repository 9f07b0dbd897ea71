"""Who is asking: the session cookie."""

from typing import Annotated, TypeVar

from beanie import Document
from bson import ObjectId
from fastapi import Cookie, Depends, HTTPException, Request, Response

from core.config import get_settings
from core.context import TaskContext
from core.models import UserModel
from core.services.sessions import end_session, find_user, start_session

D = TypeVar("D", bound=Document)

COOKIE = "session"

PAGE_HEADERS = {
    "Cache-Control": "no-store",
    "Content-Security-Policy": "default-src 'none'; style-src 'unsafe-inline'; form-action 'self'; "
    "frame-ancestors 'none'",
    "Referrer-Policy": "no-referrer",
}
"""Of a page whose address or content is a secret, such as the token of a reset."""

SessionToken = Annotated[str | None, Cookie(alias=COOKIE, include_in_schema=False)]


async def current_user(session: SessionToken = None) -> UserModel:
    """The user who has logged in; jobs that the request enqueues belong to them.

    Args:
        session: The session cookie's token.

    Raises:
        HTTPException: 401, where nobody has.
    """
    user = await find_user(session) if session else None
    if user is None:
        raise HTTPException(401, "Log in first.")
    TaskContext.set_actor(str(user.id))
    return user


CurrentUser = Annotated[UserModel, Depends(current_user)]
"""A route's parameter: the user who has logged in. A request without a session gets a 401."""


def ensure_admin(user: object) -> None:
    """Do nothing where this user is an administrator.

    Raises:
        HTTPException: 403, where not.
    """
    if not getattr(user, "is_admin", False):  # a service may have a user of its own
        raise HTTPException(403, "This is for administrators.")


async def current_admin(user: CurrentUser) -> UserModel:
    """The administrator who has logged in.

    Raises:
        HTTPException: 401, where nobody has; 403, where it is no administrator.
    """
    ensure_admin(user)
    return user


CurrentAdmin = Annotated[UserModel, Depends(current_admin)]
"""A route's parameter: the administrator who has logged in. Other users get a 403."""


async def find_own(model: type[D], document_id: str, user: UserModel) -> D:
    """A document by its id, where its field `owner` holds the id of this user.

    Args:
        model: The document's class.
        document_id: The document's id, as a request names it.
        user: The user who asks.

    Raises:
        HTTPException: 404 for those of others, as for those that do not exist.
    """
    query = (
        {"_id": ObjectId(document_id), "owner": str(user.id)}
        if ObjectId.is_valid(document_id)
        else None
    )
    if query is None or (found := await model.find_one(query)) is None:
        raise HTTPException(404, "There is no such thing.")
    return found


def client_address(request: Request) -> str:
    """The network address that a request comes from; behind a proxy, the one that `FORWARDED_ALLOW_IPS` lets it say."""
    return request.client.host if request.client else ""


ClientAddress = Annotated[str, Depends(client_address)]
"""A route's parameter: the network address that the request comes from."""


async def sign_in(response: Response, user: UserModel) -> None:
    """Start a session for this user and set its cookie; the rest of the request runs on their behalf.

    Args:
        response: The response that sets the cookie.
        user: The user, saved.
    """
    settings = get_settings()
    response.set_cookie(
        COOKIE,
        await start_session(user),
        max_age=round(settings.session_lifetime),
        httponly=True,
        secure=settings.is_production,
        samesite="lax",
    )
    TaskContext.set_actor(str(user.id))


async def sign_out(request: Request, response: Response) -> None:
    """End the session of this request, in the database and in the browser.

    Args:
        request: The request with the session's cookie.
        response: The response that removes the cookie.
    """
    if token := request.cookies.get(COOKIE):
        await end_session(token)
    response.delete_cookie(
        COOKIE, httponly=True, secure=get_settings().is_production, samesite="lax"
    )

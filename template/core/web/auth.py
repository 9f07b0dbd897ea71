"""Who is asking: the session cookie."""

from typing import Annotated

from fastapi import Cookie, Depends, HTTPException, Response

from core.config import get_settings
from core.context import TaskContext
from core.models import UserModel
from core.services.sessions import find_user, start_session

COOKIE = "session"


async def current_user(session: Annotated[str | None, Cookie(alias=COOKIE)] = None) -> UserModel:
    """The signed-in user; jobs that the request enqueues belong to them.

    Raises:
        HTTPException: 401, where nobody is signed in.
    """
    user = await find_user(session) if session else None
    if user is None:
        raise HTTPException(401, "Sign in first.")
    TaskContext.set_actor(str(user.id))
    return user


CurrentUser = Annotated[UserModel, Depends(current_user)]


async def sign_in(response: Response, user: UserModel) -> None:
    """Start a session for this user and set its cookie; the rest of the request runs on their behalf."""
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

"""A user's own account: change the password or the email address, and list and end sessions."""

from datetime import UTC, datetime
from typing import Annotated

from beanie import PydanticObjectId
from fastapi import APIRouter, Form, HTTPException, Request, Response
from fastapi.responses import HTMLResponse
from pydantic import BaseModel, EmailStr, Field
from pymongo.asynchronous.client_session import AsyncClientSession

from app.services.new_address import change_address, find_user, start_new_address
from app.services.pages import show_page
from app.tasks.emails import send_address_changed, send_new_address, send_password_changed
from core.database import with_transaction
from core.models import SessionModel, UserModel
from core.services import accounts
from core.services.accounts import InvalidToken, Password, WrongCredentials
from core.services.audit import audit_log
from core.web import ClientAddress, CurrentUser, DeviceCookie, sign_in

router = APIRouter(tags=["accounts"])

MAX_SESSIONS = 100
OldPassword = Annotated[str, Field(max_length=accounts.MAX_PASSWORD)]


class PasswordChange(BaseModel):
    password: OldPassword
    new_password: Password


class AddressChange(BaseModel):
    password: OldPassword
    new_email: EmailStr


class SessionView(BaseModel):
    """A session, and the name of the program that logged in, such as a browser's."""

    id: str
    started_at: datetime
    expires_at: datetime
    user_agent: str


@router.post(
    "/me/password",
    status_code=204,
    responses={401: {}, 403: {}, 429: {}},
)
async def change_password(
    form: PasswordChange,
    user: CurrentUser,
    request: Request,
    response: Response,
    client: ClientAddress,
    device: DeviceCookie = None,
) -> None:
    """Set a new password, and tell the user by email. All other sessions and emailed links end."""
    await _check_password(user, form.password, client, device)

    async def change(session: AsyncClientSession) -> UserModel:
        current = await UserModel.get(user.id, session=session)
        if current is None:
            raise HTTPException(401, "Log in first.")
        await accounts.set_password(current, form.new_password)
        await send_password_changed.enqueue(str(current.id))
        return current

    await sign_in(response, await with_transaction(change), request)


@router.post(
    "/me/email",
    status_code=202,
    responses={401: {}, 403: {}, 429: {}},
)
async def request_new_email(
    form: AddressChange,
    user: CurrentUser,
    client: ClientAddress,
    device: DeviceCookie = None,
) -> Response:
    """Email a link to a new address. It changes the address of the account, within an hour.

    If the new address already has an account, its owner gets an email about that instead.
    """
    await _check_password(user, form.password, client, device)
    token = await start_new_address(user, form.new_email, client)
    await send_new_address.enqueue(token)
    return Response(status_code=202)


@router.get("/new-email", response_class=HTMLResponse)
async def show_new_email_form(request: Request, token: str) -> Response:
    """Show the page that the link in the email to a new address opens."""
    return show_page(request, "confirm", action="new-email", token=token)


@router.post(
    "/new-email",
    response_class=HTMLResponse,
    responses={400: {}, 429: {}},
)
async def change_email(
    request: Request,
    token: Annotated[str, Form(max_length=100)],
    password: Annotated[str, Form(max_length=accounts.MAX_PASSWORD)],
    client: ClientAddress,
    device: DeviceCookie = None,
) -> Response:
    """Change the address of an account, and tell the former address by email."""

    async def change(_: AsyncClientSession) -> None:
        await send_address_changed.enqueue(await change_address(token))

    try:
        user = await find_user(token)
        await accounts.check_password(user.email, password, client, device)
        await with_transaction(change)
    except WrongCredentials:
        error = "Wrong password. Try again."
        return show_page(
            request,
            "confirm",
            status=400,
            action="new-email",
            token=token,
            error=error,
        )
    except InvalidToken:
        message = "This link has expired or was already used. Ask for a new one."
        return show_page(request, "confirm", status=400, message=message)
    return show_page(request, "confirm", message="Your email address has been changed.")


@router.get("/me/sessions", responses={401: {}})
async def list_sessions(user: CurrentUser) -> list[SessionView]:
    """List your newest sessions, at most 100."""
    sessions = SessionModel.find(
        SessionModel.user_id == user.id,
        SessionModel.password_version == user.password_version,
        SessionModel.expires_at > datetime.now(UTC),
    )
    return [_view(session) async for session in sessions.sort("-_id").limit(MAX_SESSIONS)]


@router.delete(
    "/me/sessions/{session_id}",
    status_code=204,
    responses={401: {}, 404: {}},
)
async def end_session(session_id: PydanticObjectId, user: CurrentUser) -> None:
    """End one of your sessions."""
    session = await SessionModel.find_one(
        SessionModel.id == session_id, SessionModel.user_id == user.id
    )
    if session is None:
        raise HTTPException(404, "Not found.")
    await session.delete()
    await audit_log("session.ended", user_id=user.id, session=str(session_id))


@router.delete("/me/sessions", status_code=204, responses={401: {}})
async def end_sessions(user: CurrentUser) -> None:
    """End all your sessions, including this one."""
    await SessionModel.find(SessionModel.user_id == user.id).delete()
    await audit_log("sessions.ended", user_id=user.id)


async def _check_password(
    user: UserModel,
    password: str,
    client: str,
    device: str | None,
) -> None:
    """Check the password, which a thief of the session does not know. Limits of log-ins apply."""
    try:
        await accounts.check_password(user.email, password, client, device)
    except WrongCredentials:
        raise HTTPException(403, "Wrong password.") from None


def _view(session: SessionModel) -> SessionView:
    assert session.id
    return SessionView(
        id=str(session.id),
        started_at=session.id.generation_time,
        expires_at=session.expires_at,
        user_agent=session.user_agent,
    )

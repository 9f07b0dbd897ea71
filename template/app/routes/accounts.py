"""Accounts: sign up, log in, log out, and reset a password by email.

No response shows whether an address has an account. Only an email to the address does.
"""

from typing import Annotated

from fastapi import APIRouter, Form, HTTPException, Request, Response
from fastapi.responses import HTMLResponse
from pydantic import BaseModel, EmailStr, Field, StringConstraints
from pymongo.asynchronous.client_session import AsyncClientSession

from app.services.pages import show_page
from app.tasks.emails import send_already_signed_up, send_password_reset, send_welcome_email
from core.context import TaskContext
from core.database import with_transaction
from core.services import accounts
from core.services.accounts import EmailTaken, InvalidToken, Password, WrongCredentials
from core.services.limits import SIGN_UP, check_limits
from core.tasks import Job
from core.web import ClientAddress, CurrentUser, sign_in, sign_out

router = APIRouter(tags=["accounts"])

NAME_RULES = StringConstraints(
    strip_whitespace=True,
    min_length=1,
    max_length=100,
)
DisplayName = Annotated[str, NAME_RULES]


class SignUp(BaseModel):
    email: EmailStr
    password: Password
    display_name: DisplayName


class SignedUp(BaseModel):
    """The id of the job that sends the email. The user can follow it after logging in."""

    job_id: str


class LogIn(BaseModel):
    email: EmailStr
    password: str = Field(max_length=accounts.MAX_PASSWORD)


class Me(BaseModel):
    user_id: str
    email: EmailStr
    display_name: str
    is_admin: bool


class ResetRequest(BaseModel):
    email: EmailStr


class ResetRequested(BaseModel):
    message: str = "If this address has an account, an email with a link is on its way."


@router.post(
    "/signup",
    status_code=202,
    responses={429: {}, 503: {}},
)
async def signup(form: SignUp, client: ClientAddress) -> SignedUp:
    """Create an account and send a welcome email.

    If the address already has an account, its owner gets an email about that instead.
    """
    address = accounts.normalize_email(form.email)
    await check_limits("sign up", SIGN_UP, address, client)

    async def create(session: AsyncClientSession) -> Job[dict[str, str]]:
        # In one transaction, so that each account gets its email even if the queue is down.
        try:
            user = await accounts.register(
                form.email,
                form.password,
                form.display_name,
                session,
            )
            task = send_welcome_email
        except EmailTaken as error:
            user = error.user
            task = send_already_signed_up
        with TaskContext.use(actor=str(user.id)):
            return await task.enqueue(str(user.id))

    job = await with_transaction(create)
    return SignedUp(job_id=job.id)


@router.post(
    "/login",
    status_code=204,
    responses={401: {}, 429: {}},
)
async def login(
    form: LogIn,
    response: Response,
    client: ClientAddress,
) -> None:
    """Start a session. The response sets its cookie."""
    try:
        user = await accounts.log_in(form.email, form.password, client)
    except WrongCredentials:
        message = "Wrong email address or password. Try again, or reset your password."
        raise HTTPException(401, message) from None
    await sign_in(response, user)


@router.post("/logout", status_code=204)
async def logout(request: Request, response: Response) -> None:
    """End the session."""
    await sign_out(request, response)


@router.get("/me", responses={401: {}})
async def me(user: CurrentUser) -> Me:
    """Return the user who is logged in."""
    return Me(
        user_id=str(user.id),
        email=user.email,
        display_name=user.display_name,
        is_admin=user.is_admin,
    )


@router.post(
    "/password-reset",
    status_code=202,
    responses={429: {}},
)
async def request_reset(form: ResetRequest, client: ClientAddress) -> ResetRequested:
    """Email a link for setting a new password. It is valid for an hour and works once."""
    user_id, token = await accounts.start_password_reset(form.email, client)
    await send_password_reset.enqueue(user_id, token)
    return ResetRequested()


@router.get("/reset", response_class=HTMLResponse)
async def show_reset_form(request: Request, token: str) -> Response:
    """Show the page that the emailed link opens."""
    return show_page(request, "reset", token=token)


@router.post(
    "/reset",
    response_class=HTMLResponse,
    responses={400: {}},
)
async def reset(
    request: Request,
    token: Annotated[str, Form()],
    password: Annotated[Password, Form()],
) -> Response:
    """Set a new password. All sessions of the account end."""
    try:
        await accounts.reset_password(token, password)
    except InvalidToken:
        message = "This link has expired or was already used. Ask for a new one."
        return show_page(request, "reset", status=400, message=message)
    message = "Your password has been changed. You can now log in."
    return show_page(request, "reset", message=message)

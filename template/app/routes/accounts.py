"""Accounts: sign up, confirm the address, log in, log out, and reset a password by email.

No response shows whether an address has an account. Only an email to the address does.
"""

from typing import Annotated

from fastapi import APIRouter, Form, HTTPException, Request, Response
from fastapi.responses import HTMLResponse
from pydantic import AfterValidator, BaseModel, EmailStr, Field, TypeAdapter, ValidationError
from pymongo.asynchronous.client_session import AsyncClientSession

from app.models.text import Line, refuse_links
from app.services.pages import show_page
from app.tasks.emails import (
    send_confirmation,
    send_password_changed,
    send_password_reset,
    send_welcome_email,
)
from core.context import TaskContext
from core.database import with_transaction
from core.models import UserModel
from core.services import accounts
from core.services.accounts import EmailTaken, InvalidToken, Password, WrongCredentials
from core.services.limits import SIGN_UP, check_limits
from core.tasks import Job
from core.web import (
    ClientAddress,
    CurrentUser,
    DeviceCookie,
    remember_device,
    sign_in,
    sign_out,
)

router = APIRouter(tags=["accounts"])

DisplayName = Annotated[Line, Field(max_length=100), AfterValidator(refuse_links)]
Token = Annotated[str, Form(max_length=100)]
EnteredPassword = Annotated[str, Form(max_length=accounts.MAX_PASSWORD)]
NewPassword = Annotated[
    str,
    Form(min_length=accounts.MIN_PASSWORD, max_length=accounts.MAX_PASSWORD),
]

PASSWORD: TypeAdapter[str] = TypeAdapter(Password)
LINK_EXPIRED = "This link has expired or was already used. Ask for a new one."


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
    """Email a link that creates the account. It is valid for a day.

    If the address already has an account, its owner gets an email about that instead. To get a new
    link, sign up again.
    """
    address = accounts.normalize_email(form.email)
    await check_limits("sign up", SIGN_UP, address, client)

    async def create(_: AsyncClientSession) -> Job[dict[str, str]]:
        # In one transaction, so each sign-up gets its email even if the queue is down.
        user_id, token = await accounts.start_sign_up(
            form.email,
            form.password,
            form.display_name,
        )
        with TaskContext.use(actor=user_id):
            return await send_confirmation.enqueue(token)

    job = await with_transaction(create)
    return SignedUp(job_id=job.id)


@router.get("/confirm", response_class=HTMLResponse)
async def show_confirmation_form(request: Request, token: str) -> Response:
    """Show the page that the emailed link of a sign-up opens."""
    return show_page(request, "confirm", action="confirm", token=token)


@router.post(
    "/confirm",
    response_class=HTMLResponse,
    responses={400: {}, 429: {}},
)
async def confirm(
    request: Request,
    token: Token,
    password: EnteredPassword,
    client: ClientAddress,
) -> Response:
    """Create the account of a sign-up, and send a welcome email."""

    async def create(_: AsyncClientSession) -> UserModel:
        user = await accounts.confirm_sign_up(token, password, client)
        await send_welcome_email.enqueue(str(user.id))
        return user

    try:
        user = await with_transaction(create)
    except WrongCredentials:
        error = "Wrong password. Enter the one with which you signed up, or sign up again."
        return show_page(
            request,
            "confirm",
            status=400,
            action="confirm",
            token=token,
            error=error,
        )
    except (InvalidToken, EmailTaken):
        message = "This link has expired or was already used. Log in, or sign up again."
        return show_page(request, "confirm", status=400, message=message)
    message = "Your email address is confirmed. You can now log in."
    page = show_page(request, "confirm", message=message)
    remember_device(page, user)
    return page


@router.post(
    "/login",
    status_code=204,
    responses={401: {}, 429: {}},
)
async def login(
    form: LogIn,
    request: Request,
    response: Response,
    client: ClientAddress,
    device: DeviceCookie = None,
) -> None:
    """Start a session. The response sets its cookie."""
    try:
        user = await accounts.log_in(form.email, form.password, client, device)
    except WrongCredentials:
        message = (
            "Wrong email address or password. Try again, or reset your password. "
            "If you have just signed up, first open the link in our email."
        )
        raise HTTPException(401, message) from None
    await sign_in(response, user, request)


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
async def request_reset(
    form: ResetRequest,
    client: ClientAddress,
    device: DeviceCookie = None,
) -> ResetRequested:
    """Email a link for setting a new password. It is valid for an hour and works once."""
    _, token = await accounts.start_password_reset(form.email, client, device)
    await send_password_reset.enqueue(token)
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
    token: Token,
    password: NewPassword,
) -> Response:
    """Set a new password. All sessions of the account end."""
    try:
        PASSWORD.validate_python(password)
    except ValidationError:
        error = "This password is on a list of leaked passwords. Choose another one."
        return show_page(request, "reset", status=400, token=token, error=error)

    async def change(_: AsyncClientSession) -> UserModel:
        user = await accounts.reset_password(token, password)
        await send_password_changed.enqueue(str(user.id))
        return user

    try:
        user = await with_transaction(change)
    except InvalidToken:
        return show_page(request, "reset", status=400, message=LINK_EXPIRED)
    message = (
        "Your password has been changed. You can now log in. "
        "Everything else in your account stays, for example webhooks. "
        "If somebody else knew your password, check these things too."
    )
    page = show_page(request, "reset", message=message)
    remember_device(page, user)
    return page

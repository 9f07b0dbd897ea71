"""Accounts: sign up, log in, log out, who am I, and a new password by mail.

No answer tells whether an address has an account; the mails that are sent do.
"""

from typing import Annotated

from fastapi import APIRouter, Form, HTTPException, Request, Response
from fastapi.responses import HTMLResponse
from fastapi.templating import Jinja2Templates
from pydantic import BaseModel, EmailStr, StringConstraints
from pymongo.asynchronous.client_session import AsyncClientSession

from app.tasks.emails import send_already_signed_up, send_password_reset, send_welcome_email
from core.config import ROOT
from core.context import TaskContext
from core.database import with_transaction
from core.services import accounts
from core.services.accounts import EmailTaken, InvalidToken, Password, WrongCredentials
from core.services.limits import SIGN_UP, check_limits
from core.tasks import Job
from core.web import PAGE_HEADERS, ClientAddress, CurrentUser, sign_in, sign_out

router = APIRouter(tags=["accounts"])
pages = Jinja2Templates(ROOT / "app" / "templates" / "pages")


class SignUp(BaseModel):
    email: EmailStr
    password: Password
    display_name: Annotated[
        str, StringConstraints(strip_whitespace=True, min_length=1, max_length=100)
    ]


class SignedUp(BaseModel):
    job_id: str
    """Of the mail; whoever has logged in can follow it."""


class LogIn(BaseModel):
    email: EmailStr
    password: Annotated[str, StringConstraints(max_length=accounts.MAX_PASSWORD)]


class Me(BaseModel):
    user_id: str
    email: EmailStr
    display_name: str
    is_admin: bool


class ResetRequest(BaseModel):
    email: EmailStr


@router.post("/signup", status_code=202, responses={429: {}, 503: {}})
async def signup(form: SignUp, client: ClientAddress) -> SignedUp:
    """Create an account and send a welcome mail; whoever has an account gets a mail that says so instead.

    Account and mail are one transaction: neither exists without the other, also where the queue is down just now.
    """
    await check_limits("sign up", SIGN_UP, accounts.normalize_email(form.email), client)

    async def create(session: AsyncClientSession) -> Job[dict[str, str]]:
        try:
            user = await accounts.register(form.email, form.password, form.display_name, session)
            mail = send_welcome_email
        except EmailTaken as taken:
            user, mail = taken.user, send_already_signed_up
        with TaskContext.use(actor=str(user.id)):  # whose job it is
            return await mail.enqueue(str(user.id))

    return SignedUp(job_id=(await with_transaction(create)).id)


@router.post("/login", status_code=204, responses={401: {}, 429: {}})
async def login(form: LogIn, response: Response, client: ClientAddress) -> None:
    """Start a session; its cookie comes with the answer."""
    try:
        user = await accounts.log_in(form.email, form.password, client)
    except WrongCredentials:
        raise HTTPException(401, "There is no account with this address and password.") from None
    await sign_in(response, user)


@router.post("/logout", status_code=204)
async def logout(request: Request, response: Response) -> None:
    """End the session."""
    await sign_out(request, response)


@router.get("/me", responses={401: {}})
async def me(user: CurrentUser) -> Me:
    """Who has logged in."""
    return Me(
        user_id=str(user.id),
        email=user.email,
        display_name=user.display_name,
        is_admin=user.is_admin,
    )


@router.post("/password-reset", status_code=202, responses={429: {}})
async def request_reset(form: ResetRequest, client: ClientAddress) -> None:
    """Have a link sent with which a new password can be chosen, within an hour and once."""
    user_id, token = await accounts.start_password_reset(form.email, client)
    await send_password_reset.enqueue(user_id, token)


@router.get("/reset", response_class=HTMLResponse)
async def show_reset_form(request: Request, token: str) -> Response:
    """The page to which the mail's link leads."""
    return _page(request, token=token)


@router.post("/reset", response_class=HTMLResponse, responses={400: {}})
async def reset(
    request: Request, token: Annotated[str, Form()], password: Annotated[Password, Form()]
) -> Response:
    """Choose a new password. Every session of the account ends."""
    try:
        await accounts.reset_password(token, password)
    except InvalidToken:
        return _page(
            request, 400, message="This link has expired or was already used. Ask for a new one."
        )
    return _page(request, message="Your password has been changed. You can now log in.")


def _page(request: Request, status: int = 200, **values: str) -> Response:
    return pages.TemplateResponse(request, "reset.html", values, status, headers=PAGE_HEADERS)

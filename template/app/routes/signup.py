"""Sign up: creates the account and queues the welcome mail."""

from typing import Annotated

from fastapi import APIRouter, HTTPException, Response
from pydantic import BaseModel, EmailStr, Field, StringConstraints
from pymongo.asynchronous.client_session import AsyncClientSession

from app.tasks.emails import send_welcome_email
from core.context import TaskContext
from core.database import with_transaction
from core.models import UserModel
from core.services.accounts import EmailTaken, register
from core.tasks import Job
from core.web import sign_in

router = APIRouter(tags=["accounts"])

Name = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=100)]


class SignUp(BaseModel):
    email: EmailStr
    password: str = Field(min_length=8, max_length=200)
    display_name: Name


class SignedUp(BaseModel):
    user_id: str
    job_id: str


@router.post("/signup", status_code=201, responses={409: {}, 503: {}})
async def signup(form: SignUp, response: Response) -> SignedUp:
    """Create an account, sign in, and send a welcome mail in the background.

    Account and mail are one transaction: neither exists without the other, also where the queue is down just now.
    """

    async def create(session: AsyncClientSession) -> tuple[UserModel, Job[dict[str, str]]]:
        user = await register(form.email, form.password, form.display_name, session)
        TaskContext.set_actor(str(user.id))  # whose job it is
        # The same request once more, as after a lost answer, is the same job.
        return user, await send_welcome_email.using(job_id=f"welcome-{user.id}").enqueue(str(user.id))

    try:
        user, job = await with_transaction(create)
    except EmailTaken:
        raise HTTPException(409, "This address has signed up already, with another password.") from None
    await sign_in(response, user)
    return SignedUp(user_id=str(user.id), job_id=job.id)

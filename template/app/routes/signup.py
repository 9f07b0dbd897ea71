"""Sign up: creates the account and queues the welcome mail."""

from typing import Annotated

from fastapi import APIRouter, HTTPException, Response
from pydantic import BaseModel, EmailStr, Field, StringConstraints

from app.tasks.emails import send_welcome_email
from core.services.accounts import EmailTaken, register
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

    Where the queue was down (503), the same request again goes on where it stopped: the job's id is made from the
    user's, so that the mail is sent once however often it is repeated.
    """
    try:
        user = await register(form.email, form.password, form.display_name)
    except EmailTaken:
        raise HTTPException(409, "This address has signed up already, with another password.") from None
    await sign_in(response, user)
    user_id = str(user.id)
    job = await send_welcome_email.using(job_id=f"welcome-{user_id}").enqueue(user_id)
    return SignedUp(user_id=user_id, job_id=job.id)

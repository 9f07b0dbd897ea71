"""Sign-ups, which become accounts when their addresses are confirmed."""

import asyncio
from datetime import timedelta

from beanie import PydanticObjectId
from pymongo.asynchronous.client_session import AsyncClientSession

from core.context import TaskContext
from core.database import with_transaction
from core.models import UserModel
from core.services.accounts.credentials import WrongCredentials
from core.services.accounts.email_tokens import create_email_token, find_email_token
from core.services.accounts.passwords import hash_password, verify_password
from core.services.accounts.registration import normalize_email, register
from core.services.audit import audit_log
from core.services.limits import LOG_IN, check_limits

SIGN_UP_LIFETIME = timedelta(days=1)


async def start_sign_up(email: str, password: str, display_name: str) -> tuple[str, str]:
    """Store a sign-up, even if the address has an account. In a transaction, it is part of it.

    Args:
        email: The address. Upper and lower case are the same.
        password: The password in plain text. Only its hash is stored.
        display_name: The user's name for greetings.

    Returns:
        The id that the account will get, and the token to send to an address without an account.
    """
    user_id = PydanticObjectId()
    token = await create_email_token(
        SIGN_UP_LIFETIME,
        purpose="sign_up",
        user_id=user_id,
        email=normalize_email(email),
        display_name=display_name,
        password_hash=await asyncio.to_thread(hash_password, password),
    )
    await audit_log("account.requested", email=email)
    return str(user_id), token


async def confirm_sign_up(token: str, password: str, client: str) -> UserModel:
    """Return the new account of a sign-up.

    The password shows that the reader of the mail also signed up. Without it, the owner of an
    address could be led to confirm an account whose password somebody else knows.

    Args:
        token: The token from the mail.
        password: The password of the sign-up, in plain text.
        client: The network address of the client.

    Raises:
        InvalidToken: The token is unknown, used or expired.
        EmailTaken: The address has an account.
        WrongCredentials: The password is wrong.
        TooManyRequests: Too many passwords were tried for the address or by the client.
    """
    sign_up = await find_email_token(token, "sign_up")
    email = str(sign_up.email)
    await check_limits("confirm", LOG_IN, email, client)
    valid, _ = await asyncio.to_thread(verify_password, password, sign_up.password_hash)
    if not valid:
        await audit_log("confirmation.failed", email=email, client=client)
        raise WrongCredentials

    async def create(session: AsyncClientSession) -> UserModel:
        await find_email_token(token, "sign_up")
        name, user_id = sign_up.display_name, sign_up.user_id
        with TaskContext.use(actor=str(user_id)):
            return await register(email, password, name, session, user_id)

    return await with_transaction(create)

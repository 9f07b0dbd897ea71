"""Password resets, with a token that is sent by mail."""

from datetime import timedelta

from beanie import PydanticObjectId
from pymongo.asynchronous.client_session import AsyncClientSession

from core.context import TaskContext
from core.database import with_transaction
from core.models import EmailTokenModel, UserModel
from core.services.accounts.email_tokens import InvalidToken, create_email_token, find_email_token
from core.services.accounts.passwords import set_password
from core.services.accounts.registration import normalize_email, register
from core.services.audit import audit_log
from core.services.limits import RESET, check_limits
from core.services.sessions import find_device

RESET_LIFETIME = timedelta(hours=1)


async def start_password_reset(
    email: str, client: str, device: str | None = None
) -> tuple[str, str]:
    """Create a reset token, which the owner of the address receives by mail.

    An unknown address also gets a user id and a token. They belong to no account.

    Args:
        email: The address.
        client: The network address of the client.
        device: The client's device cookie, if any.

    Returns:
        The id of the user to send the token to, and the token. Do not show them to the client.

    Raises:
        TooManyRequests: Too many resets were requested for the address or by the client.
    """
    email = normalize_email(email)
    user = await UserModel.find_one(UserModel.email == email)
    await check_limits("reset", RESET, email, client, find_device(device, user))
    sign_up = await EmailTokenModel.find_one({"email": email, "purpose": "sign_up"})
    known_id = user.id if user else None
    user_id = known_id or PydanticObjectId()
    token = await create_email_token(
        RESET_LIFETIME,
        purpose="reset",
        user_id=user_id,
        email=email if user or sign_up else None,
        display_name="" if user else email.partition("@")[0],
    )
    await audit_log("password.reset_requested", user_id=known_id, email=email, client=client)
    return str(user_id), token


async def reset_password(token: str, password: str) -> UserModel:
    """Change a password. This ends all emailed links and sessions of the account.

    If the address has a sign-up but no account, the reset creates the account. It contains nothing
    of the sign-up, because somebody else may have made it.

    Args:
        token: The token from the mail.
        password: The new password in plain text.

    Returns:
        The user whose password was changed.

    Raises:
        InvalidToken: The token is unknown, used or expired.
    """

    async def change(session: AsyncClientSession) -> UserModel:
        found = await find_email_token(token, "reset")
        user = await UserModel.get(found.user_id, session=session)
        with TaskContext.use(actor=str(found.user_id)):
            if user:
                # Of two requests with one token, the second conflicts. Its next try finds no token.
                await set_password(user, password)
                return user
            if found.email and found.display_name:
                return await register(found.email, password, found.display_name, found.user_id)
        raise InvalidToken

    return await with_transaction(change)

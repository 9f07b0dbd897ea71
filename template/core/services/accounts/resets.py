"""Password resets, with a token that is sent by mail."""

from datetime import timedelta

from beanie import PydanticObjectId
from pymongo.asynchronous.client_session import AsyncClientSession

from core.context import TaskContext
from core.database import current_session, with_transaction
from core.models import EmailTokenModel, UserModel
from core.services.accounts.email_tokens import InvalidToken, create_email_token, find_email_token
from core.services.accounts.passwords import set_password
from core.services.accounts.registration import normalize_email, register
from core.services.audit import audit_log
from core.services.limits import RESET, check_limits
from core.services.sessions import find_device

RESET_LIFETIME = timedelta(hours=1)


async def start_password_reset(
    email: str,
    client: str,
    device: str | None = None,
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
    sign_up = await _find_sign_up(email)
    known_id = user.id if user else None
    user_id = known_id or PydanticObjectId()
    token = await create_email_token(
        RESET_LIFETIME,
        purpose="reset",
        user_id=user_id,
        email=email if user or sign_up else None,
    )
    await audit_log(
        "password.reset_requested",
        user_id=known_id,
        email=email,
        client=client,
    )
    return str(user_id), token


async def reset_password(token: str, password: str) -> UserModel:
    """Change a password. This ends all emailed links and sessions of the account.

    If the address has a sign-up but no account, the reset confirms it. The new account has nothing
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
        with TaskContext.use(actor=str(found.user_id)):
            user = await UserModel.get(found.user_id, session=session)
            by_email = UserModel.email == found.email
            user = user or await UserModel.find_one(by_email, session=session)
            if user is None:
                return await _confirm(found, password, session)
            # Of two requests with one token, the second conflicts. Its next try finds no token.
            await set_password(user, password, session)
        return user

    return await with_transaction(change)


async def _confirm(
    found: EmailTokenModel,
    password: str,
    session: AsyncClientSession,
) -> UserModel:
    if found.email is None or not await _find_sign_up(found.email):
        raise InvalidToken
    name = found.email.partition("@")[0]
    return await register(found.email, password, name, session, found.user_id)


async def _find_sign_up(email: str) -> EmailTokenModel | None:
    query = {"email": email, "purpose": "sign_up"}
    return await EmailTokenModel.find_one(query, session=current_session())

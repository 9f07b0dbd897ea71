"""Password resets, with a token that is sent by mail."""

from datetime import UTC, datetime, timedelta

from beanie import PydanticObjectId
from pymongo.asynchronous.client_session import AsyncClientSession

from core.context import TaskContext
from core.database import with_transaction
from core.models import ResetTokenModel, UserModel
from core.services.accounts.passwords import change_password
from core.services.accounts.registration import normalize_email
from core.services.audit import audit_log
from core.services.limits import RESET, check_limits
from core.services.tokens import hash_token, new_token

RESET_LIFETIME = timedelta(hours=1)


class InvalidToken(Exception):
    """A reset token is unknown, used or expired."""


async def start_password_reset(email: str, client: str) -> tuple[str, str]:
    """Create a reset token, which the owner of the address receives by mail.

    An unknown address also gets a user id and a token. They belong to no account.

    Args:
        email: The address.
        client: The network address of the client.

    Returns:
        The id of the user to send the token to, and the token. Do not show them to the client.

    Raises:
        TooManyRequests: Too many resets were requested for the address or by the client.
    """
    email = normalize_email(email)
    await check_limits("reset", RESET, email, client)
    user = await UserModel.find_one(UserModel.email == email)
    known_id = user.id if user else None
    user_id = known_id or PydanticObjectId()
    token = new_token()
    stored = ResetTokenModel(
        token_hash=hash_token(token),
        user_id=user_id,
        expires_at=datetime.now(UTC) + RESET_LIFETIME,
    )
    await stored.insert()
    await audit_log(
        "password.reset_requested",
        user_id=known_id,
        email=email,
        client=client,
    )
    return str(user_id), token


async def get_reset_expiry(token: str) -> datetime:
    """Return the time at which a reset token expires.

    Args:
        token: The token from `start_password_reset`.

    Raises:
        InvalidToken: The token is unknown, used or expired.
    """
    found = await _find_token(token)
    if found is None:
        raise InvalidToken
    return found.expires_at


async def reset_password(token: str, password: str) -> UserModel:
    """Change a password. This ends all reset tokens and sessions of the account.

    Args:
        token: The token from the mail.
        password: The new password in plain text.

    Returns:
        The user whose password was changed.

    Raises:
        InvalidToken: The token is unknown, used or expired.
    """

    async def change(session: AsyncClientSession) -> UserModel:
        user = await _find_user(token, session)
        if user is None:
            raise InvalidToken
        # Of two requests with one token, the second conflicts here. Its next try finds no token.
        await change_password(user, password, session)
        with TaskContext.use(actor=str(user.id)):
            await audit_log("password.changed", user_id=user.id)
        return user

    return await with_transaction(change)


async def _find_token(
    token: str,
    session: AsyncClientSession | None = None,
) -> ResetTokenModel | None:
    return await ResetTokenModel.find_one(
        ResetTokenModel.token_hash == hash_token(token),
        ResetTokenModel.expires_at > datetime.now(UTC),
        session=session,
    )


async def _find_user(token: str, session: AsyncClientSession) -> UserModel | None:
    found = await _find_token(token, session)
    if found is None:
        return None
    return await UserModel.get(found.user_id, session=session)

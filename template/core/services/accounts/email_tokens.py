"""The tokens of emailed links. In a transaction, each function is part of it."""

from datetime import UTC, datetime, timedelta
from typing import Any

from core.database import current_session
from core.models import EmailTokenModel, UserModel
from core.services.tokens import hash_token, new_token


class InvalidToken(Exception):
    """A token is unknown, used or expired."""


async def create_email_token(lifetime: timedelta, **fields: Any) -> str:
    """Store a new token, and return it. Send it to the address; do not show it to the client.

    Args:
        lifetime: The time until the token expires.
        **fields: `purpose`, `user_id`, `email` and other fields of `EmailTokenModel`.
    """
    token = new_token()
    expires_at = datetime.now(UTC) + lifetime
    stored = EmailTokenModel(token_hash=hash_token(token), expires_at=expires_at, **fields)
    await stored.insert(session=current_session())
    return token


async def find_email_token(token: str, purpose: str) -> EmailTokenModel:
    """Return the record of a token.

    Args:
        token: The token.
        purpose: The purpose. A token for another purpose is unknown.

    Raises:
        InvalidToken: The token is unknown, used or expired.
    """
    found = await EmailTokenModel.find_one(
        EmailTokenModel.token_hash == hash_token(token),
        EmailTokenModel.purpose == purpose,
        EmailTokenModel.expires_at > datetime.now(UTC),
        session=current_session(),
    )
    if found is None:
        raise InvalidToken
    return found


async def delete_email_tokens(user: UserModel) -> None:
    """Delete the tokens of a user, and those for the user's address, such as sign-ups.

    Args:
        user: The user.
    """
    of_user = {"$or": [{"user_id": user.id}, {"email": user.email}]}
    await EmailTokenModel.find(of_user).delete(session=current_session())

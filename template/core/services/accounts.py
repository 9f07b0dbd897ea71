"""Accounts: who may log in, and with which password. Nothing here tells whether an address has an account."""

import asyncio
import unicodedata
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import Annotated

from beanie import PydanticObjectId
from pwdlib import PasswordHash
from pydantic import Field
from pymongo.asynchronous.client_session import AsyncClientSession
from pymongo.errors import DuplicateKeyError

from core.database import with_transaction
from core.models import ResetTokenModel, SessionModel, UserModel
from core.services.audit import audit_log
from core.services.limits import LOG_IN, RESET, check_limits
from core.services.tokens import hash_token, new_token

__all__ = [
    "MAX_PASSWORD",
    "MIN_PASSWORD",
    "EmailTaken",
    "InvalidToken",
    "Password",
    "WrongCredentials",
    "hash_password",
    "log_in",
    "make_admin",
    "normalize_email",
    "register",
    "reset_password",
    "start_password_reset",
]

RESET_LIFETIME = timedelta(hours=1)
MIN_PASSWORD = 8
"""The fewest characters of a new password."""
MAX_PASSWORD = 200
"""The most characters of a new password."""
Password = Annotated[str, Field(min_length=MIN_PASSWORD, max_length=MAX_PASSWORD)]
"""The type of a new password in a form or a model."""


class EmailTaken(Exception):
    """The address has an account already.

    Attributes:
        user: Whose it is. Tell it to the owner of the address by mail, not to whoever asks.
    """

    def __init__(self, user: UserModel) -> None:
        super().__init__(user.email)
        self.user = user


class WrongCredentials(Exception):
    """There is no account with this address and this password."""


class InvalidToken(Exception):
    """The token is unknown, was used already, or has expired."""


@lru_cache(maxsize=1)
def _hasher() -> PasswordHash:
    return PasswordHash.recommended()


@lru_cache(maxsize=1)
def _nobodys_hash() -> str:
    """Of no password, so that an unknown address takes as long as a wrong password does."""
    return _hasher().hash(new_token())


def _verify(password: str, password_hash: str | None) -> tuple[bool, str | None]:
    """Whether this is the password, and its hash by today's parameters where it has others."""
    valid, updated = _hasher().verify_and_update(password, password_hash or _nobodys_hash())
    return valid and password_hash is not None, updated


def hash_password(password: str) -> str:
    """Return the Argon2 hash of a password. It takes a tenth of a second: call it in a thread.

    Args:
        password: The password in plain text.
    """
    return _hasher().hash(password)


def normalize_email(email: str) -> str:
    """Return an address as it is stored and looked for, in lower case and in one form of Unicode.

    Args:
        email: The address as somebody wrote it.
    """
    return unicodedata.normalize("NFC", email.lower())


async def register(
    email: str, password: str, display_name: str, session: AsyncClientSession | None = None
) -> UserModel:
    """Create an account.

    Args:
        email: The address; upper and lower case are the same.
        password: In clear; only its Argon2 hash is stored.
        display_name: How to address the person.
        session: Of the transaction that this belongs to, if any.

    Raises:
        EmailTaken: The address has an account.
    """
    email, password_hash = normalize_email(email), await asyncio.to_thread(hash_password, password)
    if user := await UserModel.find_one(UserModel.email == email, session=session):
        raise EmailTaken(user)
    user = UserModel(email=email, display_name=display_name, password_hash=password_hash)
    try:
        await user.insert(session=session)
    except DuplicateKeyError:
        if session is not None:
            raise  # the transaction has failed
        if (other := await UserModel.find_one(UserModel.email == email)) is None:
            raise
        raise EmailTaken(other) from None
    await audit_log("account.created", user_id=user.id, email=email)
    return user


async def log_in(email: str, password: str, client: str) -> UserModel:
    """The account of this address and password.

    Args:
        email: The address.
        password: In clear.
        client: The network address of whoever asks.

    Raises:
        WrongCredentials: There is none; it takes as long to say so for an unknown address.
        TooManyRequests: It was tried too often with this address or from this client.
    """
    email = normalize_email(email)
    await check_limits("log in", LOG_IN, email, client)
    user = await UserModel.find_one(UserModel.email == email)
    valid, updated = await asyncio.to_thread(
        _verify, password, user.password_hash if user else None
    )
    if user is None or not valid:
        await audit_log("login.failed", email=email, client=client)
        raise WrongCredentials
    if updated:  # unless the password was changed meanwhile
        same = {"_id": user.id, "password_hash": user.password_hash}
        await UserModel.get_pymongo_collection().update_one(
            same, {"$set": {"password_hash": updated}}
        )
    await audit_log("login.succeeded", user_id=user.id, client=client)
    return user


async def start_password_reset(email: str, client: str) -> tuple[str, str]:
    """A token for whoever reads the mail of this address.

    An unknown address takes the same way: what it gets looks the same, and leads nowhere.

    Args:
        email: The address.
        client: The network address of whoever asks.

    Returns:
        The id of the user to send the token to, and the token. Tell neither to whoever asked.

    Raises:
        TooManyRequests: It was asked too often for this address or by this client.
    """
    email = normalize_email(email)
    await check_limits("reset", RESET, email, client)
    user = await UserModel.find_one(UserModel.email == email)
    user_id = user.id if user and user.id else PydanticObjectId()
    token, expires_at = new_token(), datetime.now(UTC) + RESET_LIFETIME
    await ResetTokenModel(
        token_hash=hash_token(token), user_id=user_id, expires_at=expires_at
    ).insert()
    await audit_log("password.reset_requested", email=email, client=client)
    return str(user_id), token


async def reset_password(token: str, password: str) -> UserModel:
    """Choose a password anew. The token, its siblings, and every session of the account end with it.

    Args:
        token: Of the mail.
        password: The new one, in clear.

    Raises:
        InvalidToken: It is unknown, was used already, or has expired.
    """

    async def change(session: AsyncClientSession) -> UserModel:
        found = await ResetTokenModel.find_one(
            ResetTokenModel.token_hash == hash_token(token),
            ResetTokenModel.expires_at > datetime.now(UTC),
            session=session,
        )
        user = await UserModel.get(found.user_id, session=session) if found else None
        if user is None:
            raise InvalidToken
        # Of two requests at once with one token the second one conflicts here, and finds nothing then.
        await _change_password(user, password, session)
        await audit_log("password.changed", user_id=user.id)
        return user

    return await with_transaction(change)


async def _change_password(user: UserModel, password: str, session: AsyncClientSession) -> None:
    """Set a password. Whatever the old one has opened ends."""
    user.password_hash = await asyncio.to_thread(hash_password, password)
    user.password_version += 1
    await user.save(session=session)
    await ResetTokenModel.find(ResetTokenModel.user_id == user.id, session=session).delete(
        session=session
    )
    await SessionModel.find(SessionModel.user_id == user.id, session=session).delete(
        session=session
    )


async def make_admin(email: str, password: str) -> UserModel:
    """Make an administrator, with this password also where there is an account.

    Anybody may have signed up with the address, so that the account is taken out of other hands.

    Args:
        email: The address.
        password: The new one, in clear.
    """
    email = normalize_email(email)

    async def make(session: AsyncClientSession) -> UserModel:
        user = await UserModel.find_one(UserModel.email == email, session=session)
        if user:
            await _change_password(user, password, session)
        else:
            user = await register(email, password, email.partition("@")[0], session)
        user.is_admin = True
        await user.save(session=session)
        await audit_log("admin.made", subject=str(user.id), email=email)
        return user

    return await with_transaction(make)

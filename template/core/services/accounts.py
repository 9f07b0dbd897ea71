"""Accounts: who may sign in, and with which password."""

import asyncio
from functools import lru_cache

from pwdlib import PasswordHash
from pymongo.asynchronous.client_session import AsyncClientSession
from pymongo.errors import DuplicateKeyError

from core.models import UserModel


class EmailTaken(Exception):
    """Somebody else has signed up with this address."""


@lru_cache(maxsize=1)
def _hasher() -> PasswordHash:
    return PasswordHash.recommended()


async def verify_password(user: UserModel, password: str) -> bool:
    """Whether this is the user's password. Argon2 takes its time, so it runs in a thread."""
    if user.password_hash is None:
        return False
    return await asyncio.to_thread(_hasher().verify, password, user.password_hash)


async def register(
    email: str, password: str, display_name: str, session: AsyncClientSession | None = None
) -> UserModel:
    """Create an account, or find it again.

    Signing up once more with the same address and password returns the same account, so that a sign-up
    that was cut off can be repeated.

    Args:
        email: The address; upper and lower case are the same.
        password: In clear; only its Argon2 hash is stored.
        display_name: How to address the person.
        session: Of the transaction that this belongs to, if any.

    Raises:
        EmailTaken: The address has an account with another password.
    """
    email = email.lower()
    user = await UserModel.find_one(UserModel.email == email, session=session)
    if user is None:
        password_hash = await asyncio.to_thread(_hasher().hash, password)
        user = UserModel(email=email, display_name=display_name, password_hash=password_hash)
        try:
            return await user.insert(session=session)
        except DuplicateKeyError:
            # Inside a transaction this fails, and the transaction begins anew.
            user = await UserModel.find_one(UserModel.email == email, session=session)
    if user is None or not await verify_password(user, password):
        raise EmailTaken(email)
    return user

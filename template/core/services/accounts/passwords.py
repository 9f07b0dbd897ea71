"""Passwords, stored as Argon2 hashes."""

import asyncio
import gzip
from functools import lru_cache
from pathlib import Path
from typing import Annotated

from pwdlib import PasswordHash
from pydantic import AfterValidator, Field

from core.database import current_session
from core.models import SessionModel, UserModel
from core.services.accounts.email_tokens import delete_email_tokens
from core.services.audit import audit_log
from core.services.tokens import new_token

MIN_PASSWORD = 8
"""The minimum length of a new password in characters."""
MAX_PASSWORD = 200
"""The maximum length of a password in characters."""


class WrongCredentials(Exception):
    """No account has this address and this password."""


@lru_cache(maxsize=1)
def _breached_passwords() -> frozenset[str]:
    listed = Path(__file__).with_name("breached-passwords.txt.gz").read_bytes()
    return frozenset(gzip.decompress(listed).decode().splitlines())


def _refuse_breached(password: str) -> str:
    if password.lower() in _breached_passwords():
        raise ValueError("this password is on a list of leaked passwords; choose another one")
    return password


Password = Annotated[
    str,
    Field(min_length=MIN_PASSWORD, max_length=MAX_PASSWORD),
    AfterValidator(_refuse_breached),
]
"""The type of a new password in a form or a model. It refuses common passwords from breaches."""


@lru_cache(maxsize=1)
def _hasher() -> PasswordHash:
    return PasswordHash.recommended()


@lru_cache(maxsize=1)
def _decoy_hash() -> str:
    """Return the hash of a random password. A check takes as long as with a user's hash."""
    return hash_password(new_token())


def hash_password(password: str) -> str:
    """Return the Argon2 hash of a password. It takes a tenth of a second: call it in a thread.

    Args:
        password: The password in plain text.
    """
    return _hasher().hash(password)


async def verify_password(password: str, password_hash: str | None) -> tuple[bool, str | None]:
    """Check a password.

    Args:
        password: The password in plain text.
        password_hash: The account's hash, or None if there is no account or no password.

    Returns:
        Whether the password is right, and a new hash if the hash has outdated parameters.
    """

    def verify() -> tuple[bool, str | None]:
        return _hasher().verify_and_update(password, password_hash or _decoy_hash())

    valid, new_hash = await asyncio.to_thread(verify)
    return valid and password_hash is not None, new_hash


async def set_password(user: UserModel, password: str) -> None:
    """Save a user with a new password, and end all their sessions, emailed links and devices.

    In a transaction, this is part of it.

    Args:
        user: The user.
        password: The new password in plain text.
    """
    user.password_hash = await asyncio.to_thread(hash_password, password)
    user.password_version += 1
    await user.save(session=current_session())
    await delete_email_tokens(user)
    await SessionModel.find(SessionModel.user_id == user.id).delete(session=current_session())
    await audit_log("password.changed", user_id=user.id)

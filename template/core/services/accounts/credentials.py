"""Logging in with an address and a password."""

import asyncio

from core.context import TaskContext
from core.models import UserModel
from core.services.accounts.passwords import verify_password
from core.services.accounts.registration import normalize_email
from core.services.audit import audit_log
from core.services.limits import LOG_IN, check_limits
from core.services.sessions import find_device


class WrongCredentials(Exception):
    """No account has this address and this password."""


async def log_in(
    email: str,
    password: str,
    client: str,
    device: str | None = None,
) -> UserModel:
    """Return the user with this address and password.

    An unknown address takes as long as a wrong password. A sign-up has no account yet.

    Args:
        email: The address.
        password: The password in plain text.
        client: The network address of the client.
        device: The client's device cookie, if any.

    Raises:
        WrongCredentials: No account has this address and this password.
        TooManyRequests: The address or the client has made too many attempts.
    """
    email = normalize_email(email)
    user = await UserModel.find_one(UserModel.email == email)
    await check_limits("log in", LOG_IN, email, client, find_device(device, user))
    password_hash = user.password_hash if user else None
    valid, new_hash = await asyncio.to_thread(
        verify_password,
        password,
        password_hash,
    )
    if user is None or not valid:
        attacked = user.id if user else None
        await audit_log("login.failed", user_id=attacked, email=email, client=client)
        raise WrongCredentials
    if new_hash:
        await _replace_hash(user, new_hash)
    with TaskContext.use(actor=str(user.id)):
        await audit_log("login.succeeded", user_id=user.id, client=client)
    return user


async def _replace_hash(user: UserModel, new_hash: str) -> None:
    """Store a new hash, unless the password was changed at the same time."""
    unchanged = {"_id": user.id, "password_hash": user.password_hash}
    change = {"$set": {"password_hash": new_hash}}
    users = UserModel.get_pymongo_collection()
    await users.update_one(unchanged, change)

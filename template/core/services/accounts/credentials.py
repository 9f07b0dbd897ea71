"""Logging in with an address and a password."""

from core.context import TaskContext
from core.models import UserModel
from core.services.accounts.passwords import WrongCredentials, verify_password
from core.services.accounts.registration import normalize_email
from core.services.audit import audit_log
from core.services.limits import LOG_IN, check_limits
from core.services.sessions import find_device


async def log_in(email: str, password: str, client: str, device: str | None = None) -> UserModel:
    """Return the user with this address and password, and note the log-in in the audit log.

    Args:
        email: The address.
        password: The password in plain text.
        client: The network address of the client.
        device: The client's device cookie, if any.

    Raises:
        WrongCredentials: No account has this address and this password.
        TooManyRequests: The address or the client has made too many attempts.
    """
    user = await check_password(email, password, client, device)
    with TaskContext.use(actor=str(user.id)):
        await audit_log("login.succeeded", user_id=user.id, client=client)
    return user


async def check_password(
    email: str, password: str, client: str, device: str | None = None
) -> UserModel:
    """Return the user with this address and password. The audit log notes only a failure.

    Call it before a user changes something important. An unknown address takes as long as a wrong
    password. The address of a sign-up is unknown until it is confirmed.

    Args:
        email: The address of the user.
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
    valid, new_hash = await verify_password(password, user.password_hash if user else None)
    if user is None or not valid:
        attacked = user.id if user else None
        await audit_log("login.failed", user_id=attacked, email=email, client=client)
        raise WrongCredentials
    if new_hash:
        # The password may have been changed at the same time.
        by_hash = UserModel.password_hash == user.password_hash
        unchanged = UserModel.find(UserModel.id == user.id, by_hash)
        await unchanged.set({UserModel.password_hash: new_hash})
    return user

"""New accounts: sign-ups, whose addresses must be confirmed, and administrators."""

import asyncio
import unicodedata
from datetime import timedelta

from beanie import PydanticObjectId
from pymongo.asynchronous.client_session import AsyncClientSession

from core.context import TaskContext
from core.database import with_transaction
from core.models import UserModel
from core.services.accounts.email_tokens import (
    create_email_token,
    delete_email_tokens,
    find_email_token,
)
from core.services.accounts.passwords import (
    WrongCredentials,
    hash_password,
    set_password,
    verify_password,
)
from core.services.audit import audit_log
from core.services.limits import LOG_IN, check_limits


class EmailTaken(Exception):
    """The address already has an account.

    Attributes:
        user: The user with this address. Inform them by mail; do not inform the client.
    """

    def __init__(self, user: UserModel) -> None:
        super().__init__(user.email)
        self.user = user


def normalize_email(email: str) -> str:
    """Return an address in the form that is stored: in lower case and in Unicode's NFC form.

    Args:
        email: The address as the user typed it.
    """
    return unicodedata.normalize("NFC", email.lower())


async def start_sign_up(email: str, password: str, display_name: str) -> tuple[str, str]:
    """Store a sign-up, even if the address has an account. In a transaction, this is part of it.

    Args:
        email: The address. Upper and lower case are the same.
        password: The password in plain text. Only its hash is stored.
        display_name: The user's name for greetings.

    Returns:
        The id that the account will get, and the token to send to an address without an account.
    """
    user_id = PydanticObjectId()
    token = await create_email_token(
        timedelta(days=1),
        purpose="sign_up",
        user_id=user_id,
        email=normalize_email(email),
        display_name=display_name,
        password_hash=await asyncio.to_thread(hash_password, password),
    )
    await audit_log("account.requested", email=email)
    return str(user_id), token


async def confirm_sign_up(token: str, password: str, client: str) -> UserModel:
    """Create the account of a sign-up, and return it.

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
    valid, _ = await verify_password(password, sign_up.password_hash)
    if not valid:
        raise WrongCredentials
    with TaskContext.use(actor=str(sign_up.user_id)):
        return await register(email, password, sign_up.display_name, sign_up.user_id)


async def register(
    email: str,
    password: str,
    display_name: str,
    user_id: PydanticObjectId | None = None,
) -> UserModel:
    """Create an account whose address is confirmed, and end the sign-ups with this address.

    Args:
        email: The address. Upper and lower case are the same.
        password: The password in plain text. Only its hash is stored.
        display_name: The user's name for greetings.
        user_id: The id of the account. Defaults to a new one.

    Returns:
        The new user.

    Raises:
        EmailTaken: The address already has an account.
    """
    email = normalize_email(email)
    password_hash = await asyncio.to_thread(hash_password, password)

    async def create(session: AsyncClientSession) -> UserModel:
        owner = await UserModel.find_one(UserModel.email == email, session=session)
        if owner:
            raise EmailTaken(owner)
        user = UserModel(
            id=user_id,
            email=email,
            display_name=display_name,
            password_hash=password_hash,
        )
        await user.insert(session=session)
        await delete_email_tokens(user)
        await audit_log("account.created", user_id=user.id, email=email)
        return user

    return await with_transaction(create)


async def make_admin(email: str, password: str | None = None) -> UserModel:
    """Make an administrator, with a new account or an existing one.

    An existing account keeps its password and its sessions.

    Args:
        email: The address.
        password: The password in plain text, for an account that has none yet.

    Returns:
        The administrator.

    Raises:
        ValueError: The address has no account, and no password was given.
    """
    return await _give_role(email, password, is_admin=True)


async def make_viewer(email: str, password: str | None = None) -> UserModel:
    """Make a user a viewer, who may look at the console but not act.

    Like `make_admin`, it registers the user if needed. An administrator becomes a viewer.

    Args:
        email: The address.
        password: The password in plain text, for an account that has none yet.

    Returns:
        The viewer.

    Raises:
        ValueError: The address has no account, and no password was given.
    """
    return await _give_role(email, password, is_admin=False)


async def remove_role(email: str) -> UserModel | None:
    """Take away the role of an administrator or a viewer. The password stays.

    Args:
        email: The address.

    Returns:
        The user, or None if the address has no account.
    """
    user = await UserModel.find_one(UserModel.email == normalize_email(email))
    if user:
        await user.set({UserModel.is_admin: False, UserModel.is_viewer: False})
        await audit_log("role.removed", user_id=user.id, email=user.email)
    return user


async def _give_role(email: str, password: str | None, is_admin: bool) -> UserModel:
    email = normalize_email(email)

    async def make(session: AsyncClientSession) -> UserModel:
        user = await UserModel.find_one(UserModel.email == email, session=session)
        if user is None:
            if password is None:
                raise ValueError(f"{email} has no account; give a password to create one")
            user = await register(email, password, email.partition("@")[0])
        elif password is not None and user.password_hash is None:
            await set_password(user, password)
        user.is_admin, user.is_viewer = is_admin, not is_admin
        await user.save(session=session)
        await audit_log("admin.made" if is_admin else "viewer.made", user_id=user.id, email=email)
        return user

    return await with_transaction(make)

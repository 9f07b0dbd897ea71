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


async def make_admin(email: str, password: str) -> UserModel:
    """Make an administrator, with a new account or an existing one.

    An existing account also gets the new password, because its user may not be the person who
    becomes an administrator.

    Args:
        email: The address.
        password: The new password in plain text.

    Returns:
        The administrator.
    """
    email = normalize_email(email)

    async def make(session: AsyncClientSession) -> UserModel:
        user = await UserModel.find_one(UserModel.email == email, session=session)
        if user:
            await set_password(user, password)
        else:
            user = await register(email, password, email.partition("@")[0])
        user.is_admin = True
        await user.save(session=session)
        await audit_log("admin.made", user_id=user.id, email=email)
        return user

    return await with_transaction(make)

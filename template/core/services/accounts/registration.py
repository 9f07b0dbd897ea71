"""New accounts, of users and of administrators."""

import asyncio
import unicodedata

from beanie import PydanticObjectId
from pymongo.asynchronous.client_session import AsyncClientSession
from pymongo.errors import DuplicateKeyError

from core.database import with_transaction
from core.models import UserModel
from core.services.accounts.email_tokens import delete_email_tokens
from core.services.accounts.passwords import hash_password, set_password
from core.services.audit import audit_log


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


async def register(
    email: str,
    password: str,
    display_name: str,
    session: AsyncClientSession | None = None,
    user_id: PydanticObjectId | None = None,
) -> UserModel:
    """Create an account whose address is confirmed, and end the sign-ups with this address.

    Args:
        email: The address. Upper and lower case are the same.
        password: The password in plain text. Only its hash is stored.
        display_name: The user's name for greetings.
        session: The session of the transaction that this is part of, if any.
        user_id: The id of the account. Defaults to a new one.

    Returns:
        The new user.

    Raises:
        EmailTaken: The address already has an account.
    """
    email = normalize_email(email)
    password_hash = await asyncio.to_thread(hash_password, password)
    owner = await UserModel.find_one(UserModel.email == email, session=session)
    if owner:
        raise EmailTaken(owner)
    user = UserModel(
        id=user_id,
        email=email,
        display_name=display_name,
        password_hash=password_hash,
    )
    try:
        await user.insert(session=session)
    except DuplicateKeyError:
        if session:
            raise  # the transaction has failed and cannot read
        owner = await UserModel.find_one(UserModel.email == email)
        if owner is None:
            raise
        raise EmailTaken(owner) from None
    await delete_email_tokens(user)
    await audit_log("account.created", user_id=user.id, email=email)
    return user


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
            user.is_admin = True
            await set_password(user, password, session)
        else:
            name = email.partition("@")[0]
            user = await register(email, password, name, session)
            user.is_admin = True
            await user.save(session=session)
        await audit_log("admin.made", user_id=user.id, email=email)
        return user

    return await with_transaction(make)

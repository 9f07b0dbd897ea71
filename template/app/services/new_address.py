"""A new address for an account. The owner of the new address must confirm it."""

from datetime import timedelta

from pymongo.asynchronous.client_session import AsyncClientSession

from core.context import TaskContext
from core.database import with_transaction
from core.models import UserModel
from core.services import accounts
from core.services.accounts import InvalidToken
from core.services.audit import audit_log
from core.services.limits import SIGN_UP, check_limits

LIFETIME = timedelta(hours=1)
PURPOSE = "new_address"


async def start_new_address(user: UserModel, email: str, client: str) -> str:
    """Return a token for the new address. Check the user's password first.

    Args:
        user: The user.
        email: The new address. It may already have an account.
        client: The network address of the client.

    Raises:
        TooManyRequests: The user, the client or the address has had too many emails.
    """
    email = accounts.normalize_email(email)
    await check_limits("new address", SIGN_UP, str(user.id), client)
    await check_limits("sign up", SIGN_UP, email, client)
    await audit_log("email.change_requested", user_id=user.id, email=email, client=client)
    return await accounts.create_email_token(
        LIFETIME,
        purpose=PURPOSE,
        user_id=user.id,
        email=email,
    )


async def find_user(token: str) -> UserModel:
    """Return the user who asked for a new address.

    Args:
        token: The token from the email.

    Raises:
        InvalidToken: The token is unknown, used or expired.
    """
    found = await accounts.find_email_token(token, PURPOSE)
    user = await UserModel.get(found.user_id)
    if user is None:
        raise InvalidToken
    return user


async def change_address(token: str) -> str:
    """Change the address, and end all emailed links of the account. Check the password first.

    Args:
        token: The token from the email.

    Returns:
        The former address.

    Raises:
        InvalidToken: The token is unknown, used or expired, or the address has an account by now.
    """

    async def change(session: AsyncClientSession) -> str:
        found = await accounts.find_email_token(token, PURPOSE)
        user = await UserModel.get(found.user_id, session=session)
        taken = await UserModel.find_one(UserModel.email == found.email, session=session)
        if user is None or taken or found.email is None:
            raise InvalidToken
        # Links that were sent to the former address end too.
        await accounts.delete_email_tokens(user)
        former, user.email = user.email, found.email
        await user.save(session=session)
        await accounts.delete_email_tokens(user)
        with TaskContext.use(actor=str(user.id)):
            await audit_log("email.changed", user_id=user.id, former=former, email=user.email)
        return former

    return await with_transaction(change)

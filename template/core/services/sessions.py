"""Sessions: a random token in the browser's cookie, and its hash in the database."""

from datetime import UTC, datetime, timedelta

from core.config import get_settings
from core.models import SessionModel, UserModel
from core.services.signatures import InvalidSignature, read_signed
from core.services.tokens import hash_token, new_token

DEVICE = "device"
MAX_USER_AGENT = 200


async def start_session(user: UserModel, user_agent: str = "") -> str:
    """Start a session.

    Args:
        user: The user who logged in.
        user_agent: The name that the client gave itself.

    Returns:
        The session's token, for `find_user`. It is not stored and cannot be read again.

    Raises:
        ValueError: The user is not saved.
    """
    if user.id is None:
        raise ValueError("save the user before starting a session")
    token = new_token()
    lifetime = timedelta(seconds=get_settings().session_lifetime)
    session = SessionModel(
        token_hash=hash_token(token),
        user_id=user.id,
        password_version=user.password_version,
        user_agent=user_agent[:MAX_USER_AGENT],
        expires_at=datetime.now(UTC) + lifetime,
    )
    await session.insert()
    return token


async def find_user(token: str) -> UserModel | None:
    """Return the user of a session, or None if the session does not exist or has expired.

    Args:
        token: The token from `start_session`.
    """
    session = await SessionModel.find_one(
        SessionModel.token_hash == hash_token(token),
        # MongoDB removes expired documents only about once a minute.
        SessionModel.expires_at > datetime.now(UTC),
    )
    if session is None:
        return None
    user = await UserModel.get(session.user_id)
    # A log-in that began before a password change may start its session after the change.
    if user and user.password_version == session.password_version:
        return user
    return None


async def end_session(token: str) -> None:
    """End a session. Nothing happens if it has already ended.

    Args:
        token: The token from `start_session`.
    """
    found = SessionModel.find(SessionModel.token_hash == hash_token(token))
    await found.delete()


def find_device(cookie: str | None, user: UserModel | None) -> str | None:
    """Return the id of a device with which a user has logged in before, or None.

    The device has its own limits, so guesses from elsewhere do not lock it out. The source is
    OWASP's "Slow Down Online Guessing Attacks with Device Cookies".

    Args:
        cookie: The value of the device cookie, if any.
        user: The user, if the address is known.
    """
    try:
        device = read_signed(cookie or "", DEVICE)
    except InvalidSignature:
        return None
    return device if user and device.startswith(f"{user.id} ") else None

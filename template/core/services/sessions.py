"""Sessions: a random token in the browser's cookie, and its hash in the database."""

from datetime import UTC, datetime, timedelta

from core.config import get_settings
from core.models import SessionModel, UserModel
from core.services.signatures import InvalidSignature, read_signed
from core.services.tokens import hash_token, new_token


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
    session = SessionModel(
        token_hash=hash_token(token),
        user_id=user.id,
        password_version=user.password_version,
        user_agent=user_agent[:200],
        expires_at=_find_end(datetime.now(UTC)),
    )
    await session.insert()
    return token


async def find_user(token: str) -> UserModel | None:
    """Return the user of a session, or None if the session does not exist or has expired.

    A call moves the end of the session to `SESSION_IDLE_TIMEOUT` from now, within its lifetime.

    Args:
        token: The token from `start_session`.
    """
    session = await SessionModel.find_one(
        SessionModel.token_hash == hash_token(token),
        # MongoDB removes expired documents only about once a minute.
        SessionModel.expires_at > datetime.now(UTC),
    )
    if session is None or session.id is None:
        return None
    user = await UserModel.get(session.user_id)
    # A log-in that began before a password change may start its session after the change.
    if user is None or user.password_version != session.password_version:
        return None
    end = _find_end(session.id.generation_time)
    step = timedelta(seconds=get_settings().session_idle_timeout / 10)
    if end - session.expires_at > step:  # in steps, so few requests write
        # `save` would restore a session that has just ended.
        same = SessionModel.find(SessionModel.id == session.id)
        await same.set({SessionModel.expires_at: end})
    return user


async def session_started(token: str) -> datetime | None:
    """Return the time of the log-in of a session, or None if there is no such session."""
    session = await SessionModel.find_one(SessionModel.token_hash == hash_token(token))
    return session.id.generation_time if session and session.id else None


def _find_end(began: datetime) -> datetime:
    settings = get_settings()
    idle_end = datetime.now(UTC) + timedelta(seconds=settings.session_idle_timeout)
    return min(began + timedelta(seconds=settings.session_lifetime), idle_end)


async def end_session(token: str | None) -> None:
    """End a session. Nothing happens if it has already ended.

    Args:
        token: The token from `start_session`, if any.
    """
    if token:
        await SessionModel.find(SessionModel.token_hash == hash_token(token)).delete()


def device_purpose(user: UserModel) -> str:
    """Return the purpose for which a user's devices are signed. It changes with the password."""
    return f"device.{user.id}.{user.password_version}"


def find_device(cookie: str | None, user: UserModel | None) -> str | None:
    """Return the id of a device with which a user has logged in before, or None.

    The device has its own limits, so guesses from elsewhere do not lock it out. The source is
    OWASP's "Slow Down Online Guessing Attacks with Device Cookies".

    Args:
        cookie: The value of the device cookie, if any.
        user: The user, if the address is known.
    """
    try:
        return read_signed(cookie, device_purpose(user)) if cookie and user else None
    except InvalidSignature:
        return None

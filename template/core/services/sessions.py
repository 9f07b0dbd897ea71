"""Sessions: a random token in the browser's cookie, its hash in the database."""

from datetime import UTC, datetime, timedelta

from core.config import get_settings
from core.models import SessionModel, UserModel
from core.services.tokens import hash_token, new_token


async def start_session(user: UserModel) -> str:
    """Log a user in.

    Returns:
        The token that `find_user` takes; it is not stored and cannot be read again.
    """
    if user.id is None:
        raise ValueError("save the user before starting a session")
    token = new_token()
    expires_at = datetime.now(UTC) + timedelta(seconds=get_settings().session_lifetime)
    session = SessionModel(
        token_hash=hash_token(token),
        user_id=user.id,
        password_version=user.password_version,
        expires_at=expires_at,
    )
    await session.insert()
    return token


async def find_user(token: str) -> UserModel | None:
    """The user whose session this token opens, or None where it is unknown or has expired."""
    # MongoDB removes expired documents about once a minute, so the time is checked here too.
    session = await SessionModel.find_one(
        SessionModel.token_hash == hash_token(token), SessionModel.expires_at > datetime.now(UTC)
    )
    user = await UserModel.get(session.user_id) if session else None
    # A log-in that was under way while the password was changed begins its session after all others were ended.
    return user if session and user and user.password_version == session.password_version else None


async def end_session(token: str) -> None:
    """Log a user out; nothing happens where the session has ended already."""
    await SessionModel.find(SessionModel.token_hash == hash_token(token)).delete()

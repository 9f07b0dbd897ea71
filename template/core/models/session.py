from datetime import datetime
from typing import Annotated

from beanie import Document, Indexed, PydanticObjectId


class SessionModel(Document):
    """A log-in. Only a hash of its token is stored, so a copy of the database opens no session.

    Attributes:
        token_hash: The SHA-256 hash of the session's token.
        user_id: The user who logged in.
        password_version: The user's `password_version` at the log-in.
        user_agent: The name that the client gave itself, such as a browser's.
        expires_at: The time at which the session expires and MongoDB removes it, unless a request
            postpones it.
    """

    token_hash: Annotated[str, Indexed(unique=True)]
    user_id: Annotated[PydanticObjectId, Indexed()]
    password_version: int = 0
    user_agent: str = ""
    expires_at: Annotated[datetime, Indexed(expireAfterSeconds=0)]

    class Settings:
        name = "sessions"

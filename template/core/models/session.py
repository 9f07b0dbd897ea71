from datetime import datetime
from typing import Annotated

from beanie import Document, Indexed, PydanticObjectId


class SessionModel(Document):
    """A log-in. Only a hash of its token is stored, so that the database alone lets nobody in."""

    token_hash: Annotated[str, Indexed(unique=True)]
    user_id: Annotated[PydanticObjectId, Indexed()]
    password_version: int = 0
    expires_at: Annotated[datetime, Indexed(expireAfterSeconds=0)]

    class Settings:
        name = "sessions"

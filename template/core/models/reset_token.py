from datetime import datetime
from typing import Annotated

from beanie import Document, Indexed, PydanticObjectId


class ResetTokenModel(Document):
    """A token that allows one password reset. Only its hash is stored.

    Attributes:
        token_hash: The SHA-256 hash of the token.
        user_id: The user whose password the token resets.
        expires_at: The time at which MongoDB removes the token.
    """

    token_hash: Annotated[str, Indexed(unique=True)]
    user_id: Annotated[PydanticObjectId, Indexed()]
    expires_at: Annotated[datetime, Indexed(expireAfterSeconds=0)]

    class Settings:
        name = "reset_tokens"

from datetime import datetime
from typing import Annotated

from beanie import Document, Indexed, PydanticObjectId


class ResetTokenModel(Document):
    """A password may be chosen anew, once. Only a hash of the token is stored."""

    token_hash: Annotated[str, Indexed(unique=True)]
    user_id: Annotated[PydanticObjectId, Indexed()]
    expires_at: Annotated[datetime, Indexed(expireAfterSeconds=0)]

    class Settings:
        name = "reset_tokens"

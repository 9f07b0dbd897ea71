from datetime import datetime
from typing import Annotated

from beanie import Document, Indexed, PydanticObjectId
from pydantic import Field


class EmailTokenModel(Document):
    """The token of an emailed link. It works once, and only its hash is stored.

    A sign-up is only a token until its address is confirmed, so it owns nothing.

    Attributes:
        token_hash: The SHA-256 hash of the token.
        purpose: The use of the token, such as `sign_up`, `reset` or `new_address`.
        user_id: The account, or the id that a sign-up's account will get.
        email: The address that gets the link. None if it has neither an account nor a sign-up.
        display_name: The name of the account that the link creates, if it may create one.
        password_hash: The Argon2 hash of the password that was given at the sign-up.
        expires_at: The time at which MongoDB removes the token.
    """

    token_hash: Annotated[str, Indexed(unique=True)]
    purpose: str
    user_id: Annotated[PydanticObjectId, Indexed()]
    email: Annotated[str | None, Indexed()]
    display_name: str = ""
    password_hash: str | None = Field(None, repr=False)
    expires_at: Annotated[datetime, Indexed(expireAfterSeconds=0)]

    class Settings:
        name = "email_tokens"

from datetime import UTC, datetime
from typing import Annotated

from beanie import Document, Indexed
from pydantic import EmailStr, Field


class UserModel(Document):
    """A person who signed up. Subclass it in `app.models` to add fields: the collection stays the same."""

    email: Annotated[EmailStr, Indexed(unique=True)]
    """In lower case, so that one address signs up once."""
    display_name: str
    password_hash: str | None = Field(None, repr=False)
    password_version: int = 0
    """Counts the resets; a session holds for the version that it was begun with."""
    is_admin: bool = False
    """`python -m core admin` makes one; no request does."""
    created_at: datetime = Field(default_factory=lambda: datetime.now(UTC))

    class Settings:
        name = "users"

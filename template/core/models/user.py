from datetime import UTC, datetime
from typing import Annotated

from beanie import Document, Indexed
from pydantic import EmailStr, Field


class UserModel(Document):
    """A user who signed up.

    To add fields, subclass the model in `app.models`. A subclass uses the same collection.
    """

    email: Annotated[EmailStr, Indexed(unique=True)]
    """The address, as `normalize_email` returns it. One address has one account."""
    display_name: str
    password_hash: str | None = Field(None, repr=False)
    """The Argon2 hash of the password. An account without a hash cannot log in."""
    password_version: int = 0
    """The number of password changes. A change ends all sessions with a former version."""
    is_admin: bool = False
    """Whether the user is an administrator. `just admin` sets this; no request can."""
    is_viewer: bool = False
    """Whether the user may look at the console, but not act. `just admin EMAIL --role viewer` sets
    this; no request can."""
    created_at: datetime = Field(default_factory=lambda: datetime.now(UTC))

    class Settings:
        name = "users"

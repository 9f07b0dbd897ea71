"""Users who turned off the daily digest."""

from datetime import UTC, datetime

from beanie import Document
from pydantic import Field


class Unsubscription(Document):
    """A user's wish to get no more daily digests.

    Attributes:
        id: The id of the user.
        created_at: The time of the wish.
    """

    id: str  # type: ignore[assignment]
    created_at: datetime = Field(default_factory=lambda: datetime.now(UTC))

    class Settings:
        name = "unsubscriptions"

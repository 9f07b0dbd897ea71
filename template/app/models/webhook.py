from datetime import UTC, datetime

from beanie import Document
from pydantic import Field
from pymongo import ASCENDING, IndexModel


class Subscription(Document):
    """Where somebody wants to be told of events."""

    owner: str
    url: str
    events: list[str]
    """The types that are sent; all of them where empty."""
    secret: str = Field(repr=False)
    """Both sides have it, so it cannot be hashed: the receiver verifies with it what we sign."""
    created_at: datetime = Field(default_factory=lambda: datetime.now(UTC))

    class Settings:
        name = "webhook_subscriptions"
        indexes = [IndexModel([("owner", ASCENDING), ("url", ASCENDING)], unique=True)]  # noqa: RUF012  # Beanie's form

"""Subscriptions to events, and recent events."""

from datetime import UTC, datetime
from typing import Annotated

from beanie import Document, Indexed
from pydantic import Field
from pymongo import ASCENDING, IndexModel

OWNER_AND_URL = IndexModel(
    [("owner", ASCENDING), ("url", ASCENDING)],
    unique=True,
)


class Subscription(Document):
    """A URL to which a user's events are sent.

    Attributes:
        owner: The id of the user.
        url: The receiver's URL.
        events: The event types to send. An empty list means every type.
        secret: The key that signs each delivery. It is stored in plain text, because the receiver
            verifies signatures with the same key.
        created_at: The time of the subscription.
        failures: The number of failed requests since the last successful one.
        failing_since: The time of the first of these failures.
        retry_at: No request is sent before this time.
        switched_off_at: No event is sent after this time, because the receiver failed for too long.
    """

    owner: str
    url: str
    events: list[str]
    secret: str = Field(repr=False)
    created_at: datetime = Field(default_factory=lambda: datetime.now(UTC))
    failures: int = 0
    failing_since: datetime | None = None
    retry_at: datetime | None = None
    switched_off_at: datetime | None = None

    class Settings:
        name = "webhook_subscriptions"
        indexes = (OWNER_AND_URL,)


class Event(Document):
    """An event that a user published. It is stored once for all subscriptions.

    Attributes:
        id: The event's id, which its payload contains.
        owner: The id of the user.
        payload: The body of each delivery, as JSON text. MongoDB refuses some numbers and depths.
        expires_at: The time at which MongoDB removes the event.
    """

    id: str  # type: ignore[assignment]
    owner: str
    payload: str
    expires_at: Annotated[datetime, Indexed(expireAfterSeconds=0)]

    class Settings:
        name = "webhook_events"

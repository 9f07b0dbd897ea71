from datetime import UTC, datetime
from typing import Annotated

from beanie import DecimalAnnotation, Document, Indexed
from pydantic import Field


class Order(Document):
    """Something that was sold."""

    customer: str
    product: str
    quantity: int = Field(ge=1)
    price: DecimalAnnotation
    """Of one piece."""
    created_at: Annotated[datetime, Indexed()] = Field(default_factory=lambda: datetime.now(UTC))

    class Settings:
        name = "orders"

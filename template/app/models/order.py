"""Orders, the data behind the sales report."""

from datetime import UTC, datetime
from typing import Annotated

from beanie import DecimalAnnotation, Document, Indexed
from pydantic import Field
from pymongo import ASCENDING, DESCENDING, IndexModel

from app.models.time_field import TimeField

NEWEST_OF_OWNER = IndexModel([("owner", ASCENDING), ("_id", DESCENDING)])


class Order(Document):
    """An order of one product.

    Attributes:
        owner: The id of the user who ordered.
        product: The product's name.
        quantity: The number of units.
        price: The price of one unit. It is not negative.
        created_at: The time of the order.
    """

    owner: str
    product: str
    quantity: int = Field(ge=1)
    price: DecimalAnnotation = Field(ge=0)
    created_at: Annotated[datetime, Indexed()] = Field(default_factory=lambda: datetime.now(UTC))

    class Settings:
        name = "orders"
        indexes = (NEWEST_OF_OWNER,)

    @classmethod
    async def custom_init(cls) -> None:
        """Let queries compare the time with text. Beanie calls this after it has set the fields."""
        cls.created_at = TimeField("created_at")  # type: ignore[assignment,no-untyped-call]

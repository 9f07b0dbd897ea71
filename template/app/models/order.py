"""Orders, the data behind the sales report."""

from datetime import UTC, datetime
from typing import Annotated

from beanie import DecimalAnnotation, Document, Indexed
from pydantic import Field


class Order(Document):
    """A customer's order of one product.

    Attributes:
        customer: The customer's name.
        product: The product's name.
        quantity: The number of units.
        price: The price of one unit.
        created_at: The time of the order.
    """

    customer: str
    product: str
    quantity: int = Field(ge=1)
    price: DecimalAnnotation
    created_at: Annotated[datetime, Indexed()] = Field(default_factory=lambda: datetime.now(UTC))

    class Settings:
        name = "orders"

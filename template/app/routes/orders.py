"""Orders: create one, and list your own. The sales report adds them up."""

from datetime import datetime
from decimal import Decimal
from typing import Annotated

from beanie import PydanticObjectId
from fastapi import APIRouter, Query
from pydantic import BaseModel, Field

from app.models.order import Order
from app.models.text import Line
from core.services.limits import Limits, check_limits
from core.web import ClientAddress, CurrentUser

router = APIRouter(prefix="/orders", tags=["orders"])

Product = Annotated[Line, Field(max_length=200)]
Price = Annotated[Decimal, Field(ge=0, max_digits=12, decimal_places=2)]
Limit = Annotated[int, Query(ge=1, le=1000)]

ORDERING = Limits("500 per hour", "2000 per hour")


class NewOrder(BaseModel):
    product: Product
    quantity: int = Field(default=1, ge=1, le=1_000_000)
    price: Price


class OrderView(NewOrder):
    id: str
    created_at: datetime


@router.post(
    "",
    status_code=201,
    responses={401: {}, 429: {}},
)
async def create_order(
    form: NewOrder,
    user: CurrentUser,
    client: ClientAddress,
) -> OrderView:
    """Order a product. `price` is the price of one unit."""
    owner = str(user.id)
    await check_limits("order", ORDERING, owner, client)
    order = Order(owner=owner, **form.model_dump())
    await order.insert()
    return _view(order)


@router.get("", responses={401: {}})
async def list_orders(
    user: CurrentUser,
    before: PydanticObjectId | None = None,
    limit: Limit = 100,
) -> list[OrderView]:
    """List your orders, the newest first.

    For the next page, pass the id of the last order as `before`.
    """
    query = Order.find(Order.owner == str(user.id))
    if before:
        query = query.find(Order.id < before)
    newest = query.sort("-_id").limit(limit)
    return [_view(order) async for order in newest]


def _view(order: Order) -> OrderView:
    return OrderView(
        id=str(order.id),
        product=order.product,
        quantity=order.quantity,
        price=order.price,
        created_at=order.created_at,
    )

"""Orders over HTTP, and queries that compare their time with text."""

from datetime import UTC, datetime

import pytest

from app.models.order import Order
from core.services.limits import Limits

FORM = {"product": " Engine ", "quantity": 2, "price": "19.99"}
NOON = datetime(2027, 1, 31, 12, tzinfo=UTC)


async def test_an_order_is_created_and_listed(client, signed_in):
    response = await client.post("/orders", json=FORM)
    assert response.status_code == 201
    created = response.json()
    assert created["product"] == "Engine"
    (order,) = (await client.get("/orders")).json()
    assert order == {
        "id": created["id"],
        "product": "Engine",
        "quantity": 2,
        "price": "19.99",
        "created_at": order["created_at"],
    }


async def test_the_newest_orders_are_listed_page_by_page(client, signed_in):
    ids: list[str] = []
    for _ in range(3):
        order = (await client.post("/orders", json=FORM)).json()
        ids.insert(0, order["id"])

    newest = (await client.get("/orders", params={"limit": 2})).json()
    assert [order["id"] for order in newest] == ids[:2]
    older = (await client.get("/orders", params={"before": ids[1]})).json()
    assert [order["id"] for order in older] == ids[2:]
    assert (await client.get("/orders", params={"before": "nothing"})).status_code == 422


async def test_orders_are_private(client, signed_in, stranger):
    await client.post("/orders", json=FORM)
    assert (await stranger.get("/orders")).json() == []
    client.cookies.clear()
    assert (await client.get("/orders")).status_code == 401
    assert (await client.post("/orders", json=FORM)).status_code == 401


async def test_orders_are_limited(client, signed_in, monkeypatch):
    monkeypatch.setattr("app.routes.orders.ORDERING", Limits("1 per hour", "100 per hour"))
    responses = [await client.post("/orders", json=FORM) for _ in range(2)]
    assert [response.status_code for response in responses] == [201, 429]


@pytest.mark.parametrize(
    "wrong",
    [
        {"product": " "},
        {"product": "Tea\nVisit us"},
        {"product": "x" * 201},
        {"quantity": 0},
        {"quantity": 1_000_001},
        {"price": "-1"},
        {"price": "0.001"},
        {"price": "NaN"},
    ],
)
async def test_an_invalid_order_is_refused(client, signed_in, wrong):
    response = await client.post("/orders", json={**FORM, **wrong})
    assert response.status_code == 422
    assert await Order.count() == 0


async def test_no_order_has_a_negative_price(db):
    """The chart of a report has no place for it."""
    with pytest.raises(ValueError, match="price"):
        Order(owner="1", product="Engine", quantity=1, price="-1")


@pytest.mark.parametrize(
    ("start", "end", "found"),
    [
        ("2027-01-31", "2027-01-31", 1),
        ("2027-01-01", "2027-01-30", 0),
        ("2027-02-01", "2027-02-28", 0),
        ("2027-01-31T12:00:00+00:00", "2027-01-31T12:00:00", 1),
        ("2027-01-31T13:00:00+01:00", "2027-02-01", 1),
        (NOON, NOON, 1),
        (NOON.date(), NOON.date(), 1),
    ],
)
async def test_a_period_may_be_text(db, user, start, end, found):
    order = Order(owner=str(user.id), product="Engine", quantity=1, price="1", created_at=NOON)
    await order.insert()

    inside = Order.find(Order.created_at >= start, Order.created_at <= end)
    assert await inside.count() == found
    outside = [await Order.find(Order.created_at < start).count()]
    outside.append(await Order.find(Order.created_at > end).count())
    assert sum(outside) == 1 - found


async def test_text_that_is_no_time_is_refused(db):
    with pytest.raises(ValueError, match="tomorrow"):
        _ = Order.created_at >= "tomorrow"  # type: ignore[operator]

"""Parcels."""

from unittest.mock import AsyncMock, patch

import pytest

from app.models.parcel import Address, Parcel
from app.routes.parcels import deliver


@pytest.fixture
def address():
    return Address(street="Domplatz 1", city="Köln")


@pytest.fixture
async def parcel(user, address):
    parcel = Parcel(number="abc", owner=user.id, weight=1, address=address)
    await parcel.insert()
    yield parcel
    await parcel.delete()


@pytest.fixture(autouse=True)
def environment(monkeypatch):
    monkeypatch.setenv("CARRIER_PASSWORD", "secret")


@pytest.mark.parametrize("city", ["bonn", "köln"])
def test_a_city(city):
    with pytest.raises(ValueError):
        Address(street="A", city=city)


@pytest.mark.parametrize("number,status", [("def", 201), ("abc", 409)])
async def test_adding(number, status, parcel, address, signed_in):
    parcels = {"number": number.upper(), "weight": 2, "address": address.model_dump()}
    response = await signed_in.post("/parcels/", json=parcels)
    assert response.status_code == status


@pytest.mark.parametrize(
    ("weight", "status"),
    [
        (1, 200),
        pytest.param(-1, 422, id="negative"),
    ],
)
async def test_changing(weight, status, parcel, signed_in):
    response = await signed_in.get(f"/parcels/{parcel.id}")
    assert response.json()["label"] == "ABC (open)"
    listed = await signed_in.get("/parcels/", params={"states": "open"})
    assert len(listed.json()) == 1
    response = await signed_in.post("/parcels/token", data={"username": "a", "password": "secret"})
    assert response.json()["token_type"] == "bearer"


async def test_with_a_mock():
    with patch("app.models.parcel.Parcel.get", new=AsyncMock(return_value=None)) as get:
        assert await deliver("1") == {"status": "gone"}
        get.assert_awaited_once()


class TestAddress:
    def test_its_city(self, address):
        assert address.city == "Köln"

"""The model, the settings and the middleware that the README of a service shows work in it."""

import pytest
from pymongo.errors import DuplicateKeyError

from app.models.parcel import Parcel
from app.settings import app_settings
from app.tasks.prices import find_currency
from core.testing import PASSWORD
from tests.test_prices import francs  # noqa: F401

PAGE = "https://shop.example.com"
CREDENTIALS = {"email": "ada@example.com", "password": PASSWORD}


def test_the_settings_of_the_environment():
    assert app_settings.payment_key.get_secret_value() == "for tests"
    assert "for tests" not in repr(app_settings)


async def test_a_setting_is_changed_for_a_worker(db, francs, running_worker):  # noqa: F811
    job = await find_currency.enqueue()
    assert await job.result(timeout=30) == "CHF"


def preflight(origin):
    """Return the headers of the request that a browser sends before a request with JSON."""
    return {
        "Origin": origin,
        "Access-Control-Request-Method": "POST",
        "Access-Control-Request-Headers": "content-type",
        "Sec-Fetch-Mode": "cors",
        "Sec-Fetch-Site": "same-site",
    }


async def test_a_page_on_another_origin_logs_in(client, user):
    answer = await client.options("/login", headers=preflight(PAGE))
    assert answer.status_code == 200
    assert answer.headers["access-control-allow-origin"] == PAGE
    assert "POST" in answer.headers["access-control-allow-methods"]
    assert "content-type" in answer.headers["access-control-allow-headers"].lower()
    assert answer.headers["access-control-allow-credentials"] == "true"

    login = await client.post("/login", json=CREDENTIALS, headers={"Origin": PAGE})
    assert login.status_code == 204
    assert "samesite=lax" in login.headers["set-cookie"].lower()
    me = await client.get("/me", headers={"Origin": PAGE})
    assert me.json()["email"] == "ada@example.com"
    client.cookies.clear()
    refused = await client.get("/me", headers={"Origin": PAGE})
    assert refused.status_code == 401
    for response in (login, me, refused):
        assert response.headers["access-control-allow-origin"] == PAGE
        assert response.headers["access-control-allow-credentials"] == "true"


@pytest.mark.parametrize("origin", ["https://evil.example", "https://example.com", "null"])
async def test_a_page_that_is_not_named_reads_nothing(client, origin):
    answer = await client.options("/login", headers=preflight(origin))
    assert answer.status_code == 400
    read = await client.get("/health/live", headers={"Origin": origin})
    for response in (answer, read):
        assert "access-control-allow-origin" not in response.headers


async def test_a_model(db):
    await Parcel(number="1", owner="ada").insert()
    with pytest.raises(DuplicateKeyError):
        await Parcel(number="1", owner="eve").insert()
    indexes = await Parcel.get_pymongo_collection().index_information()
    assert indexes["owner_1_status_1"]["key"] == [("owner", 1), ("status", 1)]

"""Hosts, origins, headers, and the paths that production closes."""

from typing import Annotated, Any

import httpx2
import pytest
from fastapi import APIRouter, Body, FastAPI
from fastapi.middleware import Middleware
from fastapi.middleware.cors import CORSMiddleware

from core.config import Settings
from core.entry import Service
from core.services.sessions import start_session
from core.tests import service
from core.web import CurrentUser, create_app
from core.web.auth import COOKIE

SHOP = "https://shop.example.com"
EVIL = "https://evil.example"
TOKEN = "m" * 32
PRODUCTION = {
    "environment": "production",
    "public_url": "https://api.example.com",
    "allowed_hosts": ("*.internal.example.com",),
}


@pytest.fixture
def router() -> APIRouter:
    router = APIRouter()

    @router.get("/things")
    @router.post("/things")
    async def show() -> str:
        return "done"

    @router.post("/json")
    async def read(form: Annotated[Any, Body()]) -> int:
        return len(form)

    @router.get("/me")
    async def me(user: CurrentUser) -> str:
        return user.email

    return router


@pytest.fixture
def open_client(app: FastAPI, settings: Settings, router: APIRouter, monkeypatch):
    """Return a function that makes a client of an application with these settings."""

    def open_client(
        *middleware: Middleware, host: str = "test", **changes: object
    ) -> httpx2.AsyncClient:
        valid = Settings.model_validate({**settings.model_dump(), **changes})
        for name in changes:
            monkeypatch.setattr(settings, name, getattr(valid, name))
        parts = Service([], [router], service.worker, middleware=middleware)
        changed = create_app(parts, settings)
        changed.state.database = app.state.database
        transport = httpx2.ASGITransport(changed, raise_app_exceptions=False)
        return httpx2.AsyncClient(transport=transport, base_url=f"https://{host}")

    return open_client


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({}, 200),
        ({"Origin": "https://test"}, 200),
        ({"Origin": "http://127.0.0.1:8000"}, 200),  # PUBLIC_URL
        ({"Origin": SHOP, "Sec-Fetch-Site": "same-site"}, 200),
        ({"Origin": "null", "Sec-Fetch-Site": "same-origin"}, 200),
        ({"Sec-Fetch-Site": "none"}, 200),
        ({"Origin": EVIL}, 403),
        ({"Origin": "null"}, 403),
        ({"Origin": "https://["}, 403),
        ({"Origin": "https://test.evil.example"}, 403),
        ({"Origin": "https://test:8443"}, 403),
        ({"Origin": EVIL, "Sec-Fetch-Site": "cross-site"}, 403),
        ({"Origin": "https://blog.test", "Sec-Fetch-Site": "same-site"}, 403),
        ({"Sec-Fetch-Site": "cross-site"}, 403),
    ],
)
async def test_pages_on_other_origins_change_nothing(open_client, headers, status):
    cors = Middleware(CORSMiddleware, allow_origins=[SHOP], allow_credentials=True)
    client = open_client(cors)
    headers = {"Cookie": f"{COOKIE}=token", **headers}
    assert (await client.post("/things", headers=headers)).status_code == status
    assert (await client.get("/things", headers=headers)).status_code == 200


@pytest.mark.parametrize(
    ("options", "with_cookie"),
    [
        ({"allow_origins": ["*"]}, 403),
        ({"allow_origins": [EVIL]}, 403),
        ({"allow_origins": [EVIL], "allow_credentials": True}, 200),
        ({"allow_origin_regex": r"https://\w+\.example"}, 403),
        ({"allow_origin_regex": r"https://\w+\.example", "allow_credentials": True}, 200),
    ],
)
async def test_an_origin_without_credentials_sends_no_cookie(open_client, options, with_cookie):
    client = open_client(Middleware(CORSMiddleware, **options))
    headers = {"Origin": EVIL, "Sec-Fetch-Site": "cross-site"}
    assert (await client.post("/things", headers=headers)).status_code == 200
    headers["Cookie"] = f"{COOKIE}=token"
    assert (await client.post("/things", headers=headers)).status_code == with_cookie
    assert (await client.get("/things", headers=headers)).status_code == 200
    # All origins are allowed, but the browser names none.
    del headers["Origin"]
    assert (await client.post("/things", headers=headers)).status_code == 403


@pytest.mark.parametrize(
    ("host", "status"),
    [
        ("api.example.com", 200),
        ("api.example.com:443", 200),
        ("a.internal.example.com", 200),
        ("example.com", 400),
        ("evil.example", 400),
        ("api.example.com.evil.example", 400),
    ],
)
async def test_production_knows_its_hosts(open_client, host, status):
    client = open_client(**PRODUCTION)
    assert (await client.get("/things", headers={"Host": host})).status_code == status
    redirect = await client.get("/things/", headers={"Host": host})
    assert ("location" in redirect.headers) is (status == 200)
    # Load balancers call the process by its address.
    live = await client.get("/health/live", headers={"Host": "10.0.0.7:8000"})
    assert live.status_code == 200


@pytest.mark.parametrize("path", ["/things", "/nowhere", "/health/live"])
async def test_each_answer_has_the_headers(open_client, path):
    response = await open_client().get(path)
    assert response.headers["x-content-type-options"] == "nosniff"
    assert response.headers["referrer-policy"] == "same-origin"
    policy = "base-uri 'none'; frame-ancestors 'none'; object-src 'none'"
    assert response.headers["content-security-policy"] == policy
    assert response.headers["cache-control"] == "no-store"
    assert "strict-transport-security" not in response.headers
    client = open_client(**PRODUCTION)
    for host in ("api.example.com", "evil.example"):
        response = await client.get(path, headers={"Host": host})
        assert response.headers["x-content-type-options"] == "nosniff"
        expected = "max-age=31536000; includeSubDomains"
        assert response.headers["strict-transport-security"] == expected
    plain = open_client(**{**PRODUCTION, "public_url": "http://api.example.com"})
    response = await plain.get(path, headers={"Host": "api.example.com"})
    assert "strict-transport-security" not in response.headers


@pytest.mark.parametrize(
    ("changes", "status"),
    [
        ({}, 200),
        (PRODUCTION, 404),
        ({**PRODUCTION, "api_docs": True}, 200),
        ({"api_docs": False}, 404),
    ],
)
async def test_production_closes_the_api_pages(open_client, changes, status):
    client = open_client(host="api.example.com", **changes)
    for path in ("/docs", "/redoc", "/openapi.json"):
        assert (await client.get(path)).status_code == status


@pytest.mark.parametrize(
    ("changes", "sent", "status"),
    [
        ({}, "", 200),
        ({"metrics_token": TOKEN}, "", 401),
        ({"metrics_token": TOKEN}, "Bearer wrong", 401),
        ({"metrics_token": TOKEN}, "Bearer ü", 401),
        ({"metrics_token": TOKEN}, f"Bearer {TOKEN}", 200),
        (PRODUCTION, "", 404),
        (PRODUCTION, f"Bearer {TOKEN}", 404),
        ({**PRODUCTION, "metrics_token": TOKEN}, f"Bearer {TOKEN}", 200),
    ],
)
async def test_metrics_need_the_token(open_client, changes, sent, status):
    client = open_client(host="api.example.com", **changes)
    headers = {"Authorization": sent.encode("latin-1")} if sent else {}
    assert (await client.get("/metrics", headers=headers)).status_code == status


async def test_no_path_answers_trace(open_client):
    client = open_client(host="api.example.com", **PRODUCTION)
    for path in ("/things", "/health/live"):
        response = await client.request("TRACE", path, headers={"Cookie": f"{COOKIE}=secret"})
        assert response.status_code == 405
        assert "secret" not in response.text


async def test_production_reads_no_cookie_that_another_host_can_set(open_client, user):
    token = await start_session(user)
    client = open_client(host="api.example.com", **PRODUCTION)
    for name, status in ((COOKIE, 401), (f"__Host-{COOKIE}", 200)):
        response = await client.get("/me", headers={"Cookie": f"{name}={token}"})
        assert response.status_code == status


@pytest.mark.parametrize(
    ("content", "status"),
    [
        (b'{"a": [1, {"b": "[[["}]}', 200),
        (b"[" * 100 + b"]" * 100, 200),
        (b"[" * 1_000_000, 400),
        (b"[" * 500_000 + b"]" * 500_000, 400),
        (b'{"a":' * 150_000 + b"1" + b"}" * 150_000, 400),
        (b"[1],[2]", 422),
        (b"{", 422),
        (b"", 422),
    ],
)
async def test_the_parser_refuses_deep_json(open_client, content, status):
    client = open_client()
    for kind in ("application/json", "application/problem+JSON"):
        response = await client.post("/json", content=content, headers={"Content-Type": kind})
        assert response.status_code == status
        assert status == 200 or response.json()["detail"]

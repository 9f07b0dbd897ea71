"""The start page of a service in development."""

import re

import httpx2
import pytest
from fastapi import APIRouter
from pydantic_core import MultiHostUrl

from core.entry import Service
from core.tests import service
from core.tests.servers.changed_app import OpenClient
from core.tests.servers.local_pages import ANSWERED, LOCAL, REFUSED, encode
from core.tests.servers.web_process import web_process

SOURCE = """
from core.entry import Service
from core.tasks import Worker

service = Service([], [], Worker())
"""


@pytest.fixture
def open_start(open_client: OpenClient):
    """Return a function that makes a client of a service in development."""

    def open_start(**changes) -> httpx2.AsyncClient:
        return open_client(**{"environment": "development", "host": LOCAL, **changes})

    return open_start


@pytest.mark.parametrize(("address", "headers"), ANSWERED)
async def test_a_browser_on_this_machine_sees_the_page(open_start, address, headers):
    client = open_start(client=(address, 1))
    for path in ("/", "/dev/mail"):
        assert (await client.get(path, headers=headers)).status_code == 200


@pytest.mark.parametrize(("address", "headers"), REFUSED)
async def test_other_requests_find_no_page(open_start, address, headers):
    client = open_start(client=(address, 1) if address else None)
    unknown = await client.get("/nowhere", headers=encode(headers))
    for path in ("/", "/dev/mail", "/dev/mail/a", "/dev/mail/a/html"):
        response = await client.get(path, headers=encode(headers))
        assert response.status_code == 404
        assert response.content == unknown.content


@pytest.mark.parametrize("environment", ["test", "production"])
async def test_the_pages_exist_in_development_only(open_start, environment):
    client = open_start(environment=environment, public_url="https://localhost:8000")
    for path in ("/", "/dev/mail", "/dev/mail/a"):
        assert (await client.get(path)).status_code == 404
    assert not [path for path in list_paths(client) if path == "/" or path.startswith("/dev")]


def list_paths(client: httpx2.AsyncClient) -> list[str]:
    app = client._transport.app  # type: ignore[attr-defined]
    return [str(getattr(route, "path", "")) for route in app.routes]


async def test_a_real_process_refuses_a_proxy_that_it_trusts(settings, tmp_path):
    """uvicorn replaces the client's address by the one in X-Forwarded-For."""
    changes = {"ENVIRONMENT": "development", "FORWARDED_ALLOW_IPS": "*"}
    async with (
        web_process(tmp_path, SOURCE, **changes) as port,
        httpx2.AsyncClient(base_url=f"http://127.0.0.1:{port}") as client,
    ):
        assert (await client.get("/")).status_code == 200
        for headers in ({"X-Forwarded-For": "127.0.0.1"}, {"Host": "evil.example"}):
            assert (await client.get("/", headers=headers)).status_code == 404
            assert (await client.get("/dev/mail", headers=headers)).status_code == 404


async def test_the_page_leads_on(open_start, settings):
    client = open_start(service_name="Parcel & Co")
    page = (await client.get("/")).text
    assert "Parcel &amp; Co" in page
    for path in re.findall(r'(?:href|src)="([^"]+)"', page):
        if path != "/console":  # the console's own tests open it
            assert (await client.get(path)).status_code == 200, path
    links = ("/docs", "/redoc", "/console", "/dev/mail")
    assert all(f'href="{link}"' in page for link in links)
    host = settings.mongodb_url.hosts()[0]
    assert f"{host['host']}:{host['port']}" in page
    assert "just test" in page


async def test_addresses_are_shown_without_passwords(open_start, settings, monkeypatch):
    secret = "hunter2secret"
    client = open_start(smtp_url=f"smtp://ada:{secret}@mail.example:587")
    url = MultiHostUrl(f"mongodb://ada:{secret}@db.example:27017/?authSource=admin")
    with monkeypatch.context() as patch:
        patch.setattr(settings, "mongodb_url", url)
        page = (await client.get("/")).text
    assert secret not in page
    assert "db.example:27017" in page
    assert "mail.example:587" in page
    assert "sends mail" in page


@pytest.mark.parametrize("in_process", [True, False])
async def test_a_server_that_is_down_is_named(open_start, app, monkeypatch, in_process):
    monkeypatch.setattr(service.worker.queue.engine, "in_process", in_process)
    client = open_start()
    assert "does not answer" not in (await client.get("/")).text

    async def fail() -> None:
        raise OSError

    monkeypatch.setattr(app.state.database, "ping", fail)
    response = await client.get("/")
    assert response.status_code == 200
    assert "does not answer" in response.text


async def test_pages_that_are_off_are_not_linked(open_start):
    page = (await open_start(api_docs=False, console_enabled=False).get("/")).text
    for link in ("/docs", "/redoc", "/console"):
        assert f'href="{link}"' not in page


async def test_a_service_may_have_its_own_page(open_start):
    router = APIRouter()

    @router.get("/")
    async def show() -> str:
        return "mine"

    client = open_start(service=Service([], [router], service.worker))
    for address in ("localhost", "example.com"):
        assert (await client.get("/", headers={"Host": address})).json() == "mine"


async def test_a_proxy_may_serve_the_page_below_a_path(open_start):
    page = (await open_start(root_path="/shop").get("/")).text
    links = re.findall(r'(?:href|src)="([^"]+)"', page)
    assert links
    assert all(link.startswith("/shop/") for link in links)

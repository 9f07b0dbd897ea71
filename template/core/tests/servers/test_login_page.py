"""The log-in page of the console."""

import html
import re
from urllib.parse import urlencode

import pytest

from core.entry import Service
from core.models import AuditModel, SessionModel
from core.services.sessions import find_user, start_session
from core.testing import PASSWORD
from core.tests import service
from core.tests.servers.changed_app import OpenClient
from core.web.auth import COOKIE

LOG_IN = "/console/login"
PRODUCTION = {"environment": "production", "public_url": "https://test"}


def read_text(page: str) -> str:
    return " ".join(html.unescape(re.sub(r"<[^>]+>", " ", page)).split())


async def send(client, **fields: str):
    form = {"email": "ada@example.com", "password": PASSWORD, **fields}
    return await client.post(LOG_IN, data=form)


async def test_a_user_logs_in_and_out(client, user):
    page = await client.get(LOG_IN)
    assert page.status_code == 200
    assert page.headers["cache-control"] == "no-store"
    assert "Email address" in page.text
    assert await SessionModel.count() == 0
    response = await send(client, email=" ADA@example.com ")
    assert response.status_code == 303
    assert response.headers["location"] == "/console"
    cookies = response.headers.get_list("set-cookie")
    assert all("HttpOnly" in cookie and "SameSite=lax" in cookie for cookie in cookies)
    assert {cookie.partition("=")[0] for cookie in cookies} == {"session", "device"}
    found = await find_user(client.cookies[COOKIE])
    assert found is not None
    assert found.id == user.id
    assert "logged in as ada@example.com" in read_text((await client.get(LOG_IN)).text)
    assert await SessionModel.count() == 1  # the page has changed nothing
    response = await client.post("/console/logout")
    assert response.status_code == 303
    assert response.headers["location"] == LOG_IN
    assert await SessionModel.count() == 0
    assert COOKIE not in client.cookies


async def test_the_audit_log_has_the_log_ins(client, user):
    await send(client, password="wrong password")
    await send(client)
    entries = await AuditModel.find().sort("_id").to_list()
    assert [entry.action for entry in entries] == ["login.failed", "login.succeeded"]
    assert entries[0].subject == entries[1].actor == str(user.id)


async def test_a_log_in_ends_the_former_session(client, user):
    former = await start_session(user)
    client.cookies.set(COOKIE, former)
    response = await send(client)
    assert response.cookies[COOKIE] != former
    assert await find_user(former) is None
    assert await find_user(response.cookies[COOKIE])


@pytest.mark.parametrize(
    "fields",
    [
        {"password": "wrong password"},
        {"email": "eve@example.com"},
        {"email": "not an address"},
        {"email": f"{'a' * 300}@example.com"},
        {"email": ""},
        {"password": ""},
        {"password": "x" * 100_000},
    ],
)
async def test_a_wrong_address_and_a_wrong_password_get_the_same_words(client, user, fields):
    response = await send(client, **fields)
    assert response.status_code == 401
    assert "Wrong email address or password." in read_text(response.text)
    assert "set-cookie" not in response.headers
    sent = fields.get("password", PASSWORD)
    assert not sent or sent not in response.text


async def test_what_a_client_sends_is_escaped(client, user):
    text = '"><script>alert(1)</script>@example.com'
    response = await send(client, email=text, next='/console/"><script>')
    assert "<script" not in response.text
    assert f'value="{html.escape(text)}"'.replace("&quot;", "&#34;") in response.text


async def test_too_many_attempts_are_answered_with_the_time_to_wait(client, user):
    for _ in range(10):
        assert (await send(client, password="wrong password")).status_code == 401
    response = await send(client)
    assert response.status_code == 429
    seconds = int(response.headers["retry-after"])
    assert 1 <= seconds <= 300
    assert re.search(r"Too many attempts. Try again in [1-5] minutes?\.", read_text(response.text))
    assert await SessionModel.count() == 0


@pytest.mark.parametrize(
    ("wished", "opened"),
    [
        ("/console", "/console"),
        ("/console/jobs?state=failed&task=a%2Fb", "/console/jobs?state=failed&task=a%2Fb"),
        ("/console?next=//evil", "/console?next=//evil"),
        ("/", "/"),
        ("//evil.example", "/console"),
        ("//evil.example/console", "/console"),
        ("/\\evil.example", "/console"),
        ("\\\\evil.example", "/console"),
        ("/console\\..\\..\\evil", "/console"),
        ("https://evil.example/console", "/console"),
        ("https:/console", "/console"),
        ("javascript:alert(1)", "/console"),
        ("/console.evil.example", "/console"),
        ("/consoles", "/console"),
        ("/console/../orders", "/console"),
        ("/console/%2e%2E/orders", "/console"),
        ("/console/.%2e/orders", "/console"),
        ("/orders", "/console"),
        ("console", "/console"),
        ("", "/console"),
        ("/console/\r\nSet-Cookie: a=b", "/console"),
        ("/console/\t", "/console"),
        ("\t/console", "/console"),
        ("/console/\x00", "/console"),
        ("/console/ü", "/console"),
        (f"/console/{'a' * 3000}", "/console"),
    ],
)
async def test_the_next_page_is_one_of_the_console(client, user, wished, opened):
    page = await client.get(f"{LOG_IN}?{urlencode({'next': wished})}")
    assert f'name="next" value="{html.escape(opened)}"' in page.text
    response = await send(client, next=wished)
    assert response.status_code == 303
    assert response.headers["location"] == opened


async def test_production_has_its_cookies_and_no_start_page(open_client: OpenClient, user):
    client = open_client(**PRODUCTION)
    response = await send(client, next="/")
    assert response.headers["location"] == "/console"
    cookies = response.headers.get_list("set-cookie")
    assert len(cookies) == 2
    for cookie in cookies:
        assert cookie.startswith(("__Host-session=", "__Host-device="))
        assert "Secure" in cookie
        assert "Path=/;" in cookie
    assert "logged in as" in read_text((await client.get(LOG_IN)).text)


async def test_pages_on_other_origins_log_nobody_in_or_out(client, user):
    evil = {"Origin": "https://evil.example", "Sec-Fetch-Site": "cross-site"}
    form = {"email": user.email, "password": PASSWORD}
    for path in (LOG_IN, "/console/logout"):
        assert (await client.post(path, data=form, headers=evil)).status_code == 403
    assert await SessionModel.count() == 0


async def test_the_page_loads_nothing_from_elsewhere(client):
    page = await client.get(LOG_IN)
    policy = page.headers["content-security-policy"]
    assert policy.startswith("default-src 'none'; style-src 'self'; ")
    assert "unsafe" not in policy
    files = ["/core-static/icon.svg", "/core-static/page.css"]
    assert re.findall(r'(?:src|href)="([^"]+)"', page.text) == files
    assert not re.search(r"<script|<style|style=|\son\w+=", page.text)
    css = await client.get("/core-static/page.css")
    assert css.headers["content-type"].startswith("text/css")
    assert "url(" not in css.text
    assert "@import" not in css.text


@pytest.mark.parametrize("method", ["GET", "POST"])
async def test_without_the_database_the_page_says_so(app, client, method):
    app.state.database.ready.clear()
    response = await client.request(method, LOG_IN)
    app.state.database.ready.set()
    assert response.status_code == 503
    assert response.headers["content-type"].startswith("text/html")
    assert response.headers["retry-after"] == "2"
    text = read_text(response.text)
    assert "The database cannot be reached. Try again in a moment." in text
    assert "MONGODB_URL" in text
    assert ("Try again" in text[-30:]) is (method == "GET")


async def test_a_get_logs_nobody_out(client):
    assert (await client.get("/console/logout")).status_code == 405


async def test_a_proxy_may_serve_the_page_below_a_path(open_client: OpenClient, user):
    client = open_client(root_path="/shop")
    page = await client.get(LOG_IN)
    assert 'action="/shop/console/login"' in page.text
    assert 'href="/shop/core-static/page.css"' in page.text
    for wished in ("/console/jobs", "/shop/console/jobs"):
        response = await send(client, next=wished)
        assert response.headers["location"] == "/shop/console/jobs"
    response = await client.post("/console/logout")
    assert response.headers["location"] == "/shop/console/login"


async def test_the_page_ends_with_the_console(open_client: OpenClient):
    client = open_client(console_enabled=False)
    assert (await client.get(LOG_IN)).status_code == 404
    assert (await client.post("/console/logout")).status_code == 404


async def test_a_service_with_its_own_users_has_no_log_in_page(open_client: OpenClient):
    async def current_user() -> None: ...

    own = Service([], [], service.worker, current_user=current_user)
    client = open_client(service=own)
    assert (await client.get(LOG_IN)).status_code == 404

"""The console of services with other settings, users, routes and servers."""

import asyncio
from http.client import HTTPConnection

import pytest
from fastapi import APIRouter, HTTPException
from fastapi.routing import APIRoute
from pydantic_core import MultiHostUrl
from starlette.routing import Match
from starlette.types import Scope

from core.config import Settings
from core.dev.servers import HOST, free_port
from core.entry import Service, load_service
from core.services.sessions import start_session
from core.tasks.engines import AVAILABLE
from core.tests import service
from core.tests.queue_servers import queue_server
from core.tests.servers.browsers import SAME_ORIGIN, open_browsers
from core.tests.servers.changed_app import OpenClient
from core.tests.servers.web_process import web_process
from core.web import create_app
from core.web.auth import COOKIE

SERVED = """
import sys

from fastapi import APIRouter

from core.entry import Service
from core.tasks import Worker

router = APIRouter()


@router.get("/loaded")
def loaded() -> bool:
    return "core.web.console" in sys.modules


service = Service([], [router], Worker())
"""


def read(port: int, path: str) -> tuple[int, str]:
    connection = HTTPConnection(HOST, port, timeout=10)
    connection.request("GET", path)
    answer = connection.getresponse()
    return answer.status, answer.read().decode()


async def test_without_the_setting_there_is_no_console(servers, settings, tmp_path, open_client):
    client = open_client(console_enabled=False)
    for path in ("", "/failures", "/login"):
        assert (await client.get(f"/console{path}")).status_code == 404
    response = await client.post("/console/failures/discard", headers=SAME_ORIGIN)
    assert response.status_code == 404
    for is_enabled in ("false", "true"):
        folder = tmp_path / is_enabled
        folder.mkdir()
        async with web_process(folder, SERVED, CONSOLE_ENABLED=is_enabled) as port:
            assert await asyncio.to_thread(read, port, "/loaded") == (200, is_enabled)


async def test_the_console_has_its_own_port(servers, settings, tmp_path):
    second = free_port()
    async with web_process(tmp_path, SERVED, CONSOLE_PORT=str(second)) as port:

        async def statuses(path: str) -> tuple[int, int]:
            first, _ = await asyncio.to_thread(read, port, path)
            own, _ = await asyncio.to_thread(read, second, path)
            return first, own

        assert await statuses("/console/login") == (404, 200)
        assert await statuses("/console") == (404, 303)
        assert await statuses("/consoles") == (404, 404)
        assert await statuses("/loaded") == (200, 404)
        assert await statuses("/openapi.json") == (200, 404)
        for path in (
            "/health/live",
            "/health/ready",
            "/health/backlog",
            "/core-static/console.css",
        ):
            assert await statuses(path) == (200, 200)


async def test_a_port_that_is_taken_ends_the_process_with_one_line(command, monkeypatch):
    port = free_port()
    for variable in ("PORT", "CONSOLE_PORT"):
        monkeypatch.setenv(variable, str(port))
    done = await command("web")
    assert done.status == 2
    assert "CONSOLE_PORT and PORT are the same" in done.errors


async def test_a_service_keeps_its_own_console(open_client: OpenClient, caplog):
    router = APIRouter(prefix="/console")

    @router.get("/reports")
    async def reports() -> str:
        return "mine"

    outer = APIRouter()
    outer.include_router(router)
    client = open_client(service=Service([], [outer], service.worker))
    assert (await client.get("/console/reports")).json() == "mine"
    assert (await client.get("/console/failures")).status_code == 404
    assert "the service has its own routes at /console" in caplog.text


async def test_a_route_for_every_path_does_not_hide_the_console(open_client: OpenClient):
    router = APIRouter()

    @router.get("/{path:path}")
    async def single_page(path: str) -> str:
        return path

    client = open_client(service=Service([], [router], service.worker))
    assert (await client.get("/elsewhere")).json() == "elsewhere"
    assert (await client.get("/console")).status_code == 303


class Member:
    """A user of a service with its own log-in. It lacks most attributes of `UserModel`."""

    id = 7
    is_admin = True


@pytest.mark.parametrize(("is_admin", "status"), [(True, 200), (False, 403)])
async def test_a_service_with_its_own_users(open_client: OpenClient, db, is_admin, status):
    is_known = True

    async def current_user() -> Member:
        if not is_known:
            raise HTTPException(401, "Who are you?")
        member = Member()
        if not is_admin:
            member.is_admin = False
        return member

    own = Service([], [], service.worker, current_user=current_user)
    client = open_client(service=own)
    assert (await client.get("/console")).status_code == status
    answer = await client.post("/console/jobs/abort", data={"id": "7"}, headers=SAME_ORIGIN)
    assert answer.status_code == (303 if is_admin else 403)
    page = await client.get("/console/failures/confirm?action=discard&all=1")
    assert page.status_code == status
    is_known = False
    answer = await client.get("/console")
    assert (answer.status_code, "Who are you?" in answer.text) == (401, True)


async def test_a_proxy_may_serve_the_console_below_a_path(open_client: OpenClient, user):
    client = open_client(root_path="/shop")
    answer = await client.get("/console/failures?since=1h")
    expected = "/shop/console/login?next=%2Fconsole%2Ffailures%3Fsince%3D1h"
    assert answer.headers["location"] == expected
    await user.set({"is_viewer": True})
    client.cookies.set(COOKIE, await start_session(user))
    page = await client.get("/console")
    assert 'href="/shop/console/failures"' in page.text
    assert 'href="/shop/core-static/console.css"' in page.text
    assert '"/console' not in page.text


async def test_a_request_for_the_service_is_compared_with_no_route_of_the_console(
    app, client, monkeypatch
):
    compared = []

    match = APIRoute.matches

    def note_and_match(route: APIRoute, scope: Scope) -> tuple[Match, Scope]:
        compared.append(route.path)
        return match(route, scope)

    monkeypatch.setattr(APIRoute, "matches", note_and_match)
    assert (await client.get("/nothing")).status_code == 404
    assert "/health/live" in compared
    assert not [path for path in compared if path.startswith(("/console", "/core-static"))]


async def test_without_the_database_a_page_is_one_sentence(app, admin):
    app.state.database.ready.clear()
    answer = await admin.get("/console/failures")
    app.state.database.ready.set()
    assert answer.status_code == 503
    assert "The database cannot be reached." in answer.text
    assert "Try again</a>" in answer.text
    assert answer.headers["retry-after"] == "2"
    assert "Traceback" not in answer.text


@pytest.mark.skipif("redis" not in AVAILABLE, reason="the queue has no server")
async def test_without_the_server_of_the_queue_the_rest_is_shown(settings: Settings, tmp_path):
    with queue_server(tmp_path) as (port, process):
        settings.task_engine = "redis"
        settings.redis_url = MultiHostUrl(f"redis://{HOST}:{port}/0")
        app = create_app(load_service(settings), settings)
        async with app.router.lifespan_context(app), open_browsers(app) as browsers:
            admin = browsers["admin"]
            page = await admin.get("/console")
            assert "No worker is alive, so no job runs." in page.text
            assert "The workers keep up" not in page.text
            assert "The job queue is off" not in page.text
            process.kill()
            process.wait()
            page = await admin.get("/console")
            assert page.status_code == 200
            assert "The queue's server cannot be reached" in page.text
            for path in ("/failures", "/workers", "/tasks", "/audit"):
                assert (await admin.get(f"/console{path}")).status_code == 200
            answer = await admin.get("/console/jobs")
            assert answer.status_code == 503
            assert "The queue&#39;s server cannot be reached." in answer.text
            answer = await admin.submit("/console/jobs/abort", id="7")
            assert answer.status_code == 503

"""The web process: health, errors, background tasks and correlation ids."""

import logging
from typing import Annotated

import pytest
from fastapi import BackgroundTasks, Body, FastAPI
from pydantic import EmailStr

from core.config import get_settings
from core.context import TaskContext
from core.services.sessions import find_user, start_session


async def test_a_service_with_its_servers_is_ready(client):
    assert (await client.get("/health/live")).json() == {"status": "ok"}
    response = await client.get("/health/ready")
    assert response.status_code == 200
    checks = {"database": "ok", "queue": "ok", "schedules": "ok"}
    assert response.json() == {"status": "ok", "checks": checks}


async def test_routine_requests_are_logged_if_they_fail(app: FastAPI, client, caplog):
    caplog.set_level(logging.DEBUG)

    async def levels_of(path: str) -> list[str]:
        caplog.clear()
        await client.get(path)
        records = [each for each in caplog.records if f" path={path} " in each.message]
        return [record.levelname for record in records]

    for path in ("/health/live", "/health/ready", "/health/backlog", "/metrics"):
        assert await levels_of(path) == ["DEBUG"]
    assert await levels_of("/core-static/console.css") == ["DEBUG"]
    assert await levels_of("/core-static/none.css") == ["INFO"]
    assert await levels_of("/metrics/none") == ["INFO"]
    assert await levels_of("/healthy") == ["INFO"]
    app.state.database.ready.clear()
    assert await levels_of("/health/ready") == ["INFO"]
    app.state.database.ready.set()


async def test_background_tasks_of_fastapi_keep_the_correlation_id(app: FastAPI, client):
    seen = []

    async def later() -> None:
        seen.append(TaskContext.get_correlation_id())

    def later_in_a_thread() -> None:
        seen.append(TaskContext.get_correlation_id())

    @app.get("/test-background")
    async def background(tasks: BackgroundTasks) -> None:
        tasks.add_task(later)
        tasks.add_task(later_in_a_thread)

    await client.get("/test-background", headers={"X-Request-ID": "background-1"})
    assert seen == ["background-1"] * 2


async def test_an_expired_or_unknown_session_has_no_user(user, monkeypatch):
    monkeypatch.setattr(get_settings(), "session_lifetime", -1)
    assert await find_user(await start_session(user)) is None
    assert await find_user("made up") is None


async def test_a_session_ends_with_its_account(user):
    token = await start_session(user)
    assert await find_user(token)
    await user.delete()
    assert await find_user(token) is None


@pytest.mark.parametrize(
    ("sent", "kept"),
    [("abc-1", True), ("a" * 129, False), ("a b", False), ("a%0a", False), (None, False)],
)
async def test_a_valid_correlation_id_is_kept(client, sent, kept):
    response = await client.get("/health/live", headers={"X-Request-ID": sent} if sent else {})
    (received,) = response.headers.get_list("x-request-id")
    assert (received == sent) is kept
    assert received


async def test_an_unexpected_error_shows_its_id_and_no_details(app: FastAPI, client):
    @app.get("/test-broken")
    async def broken() -> None:
        raise RuntimeError("secret detail")

    response = await client.get("/test-broken", headers={"X-Request-ID": "broken-1"})
    assert response.status_code == 500
    assert response.json()["correlation_id"] == "broken-1"
    assert response.headers["x-request-id"] == "broken-1"
    assert "secret detail" not in response.text


@pytest.mark.parametrize(
    "body",
    [b'{"email": "\\ud800"}', b'{"email": "a@example.com", "password": ["\\ud800"]}', b"[[["],
)
async def test_the_answer_to_an_invalid_form_does_not_repeat_it(app, client, body):
    @app.post("/test-form")
    async def form(
        email: Annotated[EmailStr, Body()], password: Annotated[str, Body()]
    ) -> None: ...

    response = await client.post(
        "/test-form", content=body, headers={"content-type": "application/json"}
    )
    assert response.status_code == 422
    assert "input" not in response.text

"""A service's own application: middleware, exception handlers, lifespan and API pages."""

import logging
import os
import subprocess
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import Any

import httpx2
import pytest
from fastapi import APIRouter, FastAPI, Request, Response
from fastapi.middleware import Middleware
from fastapi.middleware.cors import CORSMiddleware
from fastapi.responses import JSONResponse
from fastapi.staticfiles import StaticFiles
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Receive, Scope, Send

from core.config import ROOT, Settings
from core.context import TaskContext
from core.database import Database
from core.entry import Service
from core.models import UserModel
from core.services.limits import TooManyRequests
from core.tasks import QueueUnavailable, Worker
from core.web import create_app

Open = Callable[..., AbstractAsyncContextManager[httpx2.AsyncClient]]

ORIGIN = "https://shop.example.com"
CORS = Middleware(
    CORSMiddleware,
    allow_origins=[ORIGIN],
    allow_methods=["*"],
    allow_credentials=True,
)
ERRORS = {
    "queue": QueueUnavailable("down"),
    "limit": TooManyRequests(3),
    "broken": RuntimeError("x"),
}


@pytest.fixture
def router() -> APIRouter:
    router = APIRouter()

    @router.get("/errors/{name}")
    async def fail(name: str) -> None:
        raise ERRORS[name]

    @router.post("/numbers")
    async def send_number(number: int) -> int:
        return number

    @router.post("/files")
    async def send_file(request: Request) -> int:
        return len(await request.body())

    return router


@pytest.fixture
def open_app(settings: Settings, router: APIRouter) -> Open:
    """Return a function that starts an application for a block. It takes the parts of a service."""

    @asynccontextmanager
    async def open_app(**parts: Any) -> AsyncIterator[httpx2.AsyncClient]:
        app = create_app(Service([], [router], Worker(), **parts), settings)
        transport = httpx2.ASGITransport(app, raise_app_exceptions=False)
        async with (
            app.router.lifespan_context(app),
            httpx2.AsyncClient(transport=transport, base_url="http://test") as client,
        ):
            yield client

    return open_app


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/health/live", 200),
        ("GET", "/jobs/1", 401),
        ("GET", "/nowhere", 404),
        ("POST", "/files", 413),
        ("POST", "/numbers?number=one", 422),
        ("GET", "/errors/limit", 429),
        ("GET", "/errors/broken", 500),
        ("GET", "/errors/queue", 503),
    ],
)
async def test_a_browser_may_read_the_answers_to_errors(
    open_app, settings, monkeypatch, caplog, method, path, status
):
    monkeypatch.setattr(settings, "max_body_size", 10)
    caplog.set_level(logging.DEBUG)
    async with open_app(middleware=[CORS]) as client:
        content = "more than 10 bytes" if path == "/files" else None
        response = await client.request(method, path, content=content, headers={"origin": ORIGIN})
    assert response.status_code == status
    assert response.headers["access-control-allow-origin"] == ORIGIN
    assert response.headers["access-control-allow-credentials"] == "true"
    assert len(response.headers.get_list("x-request-id")) == 1
    (logged,) = [line for line in caplog.messages if "method=" in line]
    assert f"status={status}" in logged


async def test_a_preflight_is_answered_and_logged(open_app, caplog):
    caplog.set_level(logging.INFO)
    headers = {
        "origin": ORIGIN,
        "access-control-request-method": "POST",
        "access-control-request-headers": "content-type",
    }
    async with open_app(middleware=[CORS]) as client:
        allowed = await client.options("/numbers", headers=headers)
        refused = await client.options(
            "/numbers", headers={**headers, "origin": "https://evil.example"}
        )
    assert allowed.status_code == 200
    assert allowed.headers["access-control-allow-origin"] == ORIGIN
    assert refused.status_code == 400
    assert "access-control-allow-origin" not in refused.headers
    logged = [line for line in caplog.messages if "method=OPTIONS" in line]
    assert [f"status={code}" in line for code, line in zip((200, 400), logged, strict=True)]


class Note:
    """Adds a word to the request, and the correlation id to the response."""

    def __init__(self, app: ASGIApp, word: str) -> None:
        self._app = app
        self._word = word

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            scope.setdefault("words", []).append(self._word)
            scope["words"].append(TaskContext.get_correlation_id())
            if scope["path"] == "/broken-middleware":
                raise RuntimeError("secret detail")
        await self._app(scope, receive, send)


async def test_the_first_middleware_is_outermost_and_has_the_correlation_id(open_app, router):
    @router.get("/words")
    async def show_words(request: Request) -> list[str]:
        return list(request.scope["words"])

    middleware = [Middleware(Note, "first"), Middleware(Note, word="second")]
    async with open_app(middleware=middleware) as client:
        headers = {"x-request-id": "words-1"}
        response = await client.get("/words", headers=headers)
        assert response.json() == ["first", "words-1", "second", "words-1"]
        broken = await client.get("/broken-middleware", headers=headers)
    assert broken.status_code == 500
    assert broken.json()["correlation_id"] == "words-1"
    assert broken.headers.get_list("x-request-id") == ["words-1"]


@pytest.mark.parametrize("key", [Exception, 500])
async def test_a_handler_replaces_the_handler_for_the_same_exception(open_app, key):
    answered = []

    async def answer(request: Request, error: Exception) -> Response:
        answered.append(type(error))
        return JSONResponse({"error": "mine"}, 418)

    handlers = {TooManyRequests: answer, KeyError: answer, 404: answer, key: answer}
    async with open_app(exception_handlers=handlers) as client:
        for path in ("/errors/limit", "/errors/unknown", "/nowhere", "/errors/broken"):
            response = await client.get(path)
            assert (response.status_code, response.json()) == (418, {"error": "mine"})
        assert (await client.get("/errors/queue")).status_code == 503
    assert answered == [TooManyRequests, KeyError, HTTPException, RuntimeError]


async def test_the_lifespan_is_inside_the_database_and_the_queue(open_app, router):
    events = []

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        database: Database = app.state.database
        await database.ping()
        events.append(f"opened with {await UserModel.count()} users")
        app.state.rates = {"CHF": 0.93}
        yield
        await database.ping()
        events.append("closed")

    @router.get("/rates")
    async def show_rates(request: Request) -> dict[str, float]:
        rates: dict[str, float] = request.app.state.rates
        return rates

    async with open_app(lifespan=lifespan) as client:
        assert (await client.get("/rates")).json() == {"CHF": 0.93}
    assert events == ["opened with 0 users", "closed"]


@pytest.mark.parametrize(
    ("pages", "found"),
    [
        ({}, {"/docs", "/redoc", "/openapi.json"}),
        ({"docs_url": "/api"}, {"/api", "/redoc", "/openapi.json"}),
        ({"redoc_url": None}, {"/docs", "/openapi.json"}),
        ({"openapi_url": None}, set()),
    ],
)
async def test_the_api_pages_are_moved_or_turned_off(open_app, pages, found):
    async with open_app(**pages) as client:
        for path in ("/docs", "/redoc", "/openapi.json", "/api"):
            assert (await client.get(path)).status_code == (200 if path in found else 404)


async def test_static_files_and_applications_are_mounted(open_app, router, tmp_path: Path):
    (tmp_path / "logo.txt").write_text("logo")
    router.mount("/static", StaticFiles(directory=tmp_path))
    other = FastAPI()

    @other.get("/hello")
    async def hello() -> str:
        return "hello"

    router.mount("/other", other)
    async with open_app() as client:
        assert (await client.get("/static/logo.txt")).text == "logo"
        assert (await client.get("/other/hello")).json() == "hello"


FAILING = """
from contextlib import asynccontextmanager
from core.entry import Service
from core.errors import UserError
from core.tasks import Worker

@asynccontextmanager
async def lifespan(app):
    raise {error}
    yield

service = Service([], [], Worker(), lifespan=lifespan)
"""


@pytest.mark.parametrize(
    ("error", "status", "is_one_line"),
    [
        ("UserError('the rates of today are missing')", 2, True),
        ("KeyError('the rates of today are missing')", 3, False),
        ("SystemExit('the rates of today are missing')", 3, False),
    ],
)
def test_a_lifespan_that_fails_ends_the_process(settings, tmp_path, error, status, is_one_line):
    (tmp_path / "failing.py").write_text(FAILING.format(error=error))
    environment = {
        **os.environ,
        "SERVICE": "failing:service",
        "PYTHONPATH": f"{tmp_path}:{ROOT}",
        "TASK_TIMEOTU": "60",
        "LOG_FORMAT": "json",
        "PORT": "0",
    }
    done = subprocess.run(
        [sys.executable, "-m", "core", "web"],
        env=environment,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == status
    warning, *rest = done.stderr.splitlines()
    assert "TASK_TIMEOTU is not a setting; did you mean TASK_TIMEOUT?" in warning
    lines = [line for line in rest if "the job queue is off" not in line]
    assert "the rates of today are missing" in lines[0]
    assert (lines == ["error: the rates of today are missing"]) is is_one_line
    assert ("Traceback" in done.stderr) is not is_one_line

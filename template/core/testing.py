"""A pytest plugin: the service on real servers, with an empty database for each test.

Fixtures: `db`, `user`, `client`, `signed_in`, `stranger`, `mailbox`, `running_worker`. With `db` alone jobs run in the
test's own process; `running_worker` starts a real worker process on a real queue. What `MONGODB_URL` or `REDIS_URL`
name in the environment is used; otherwise servers are started for the run and removed after it. Mail is always caught.
`eventually` waits for what workers do.
"""

import asyncio
import inspect
import mailbox as mailboxes
import os
import re
import secrets
import shutil
import subprocess
import sys
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from email import message_from_bytes, policy
from email.message import EmailMessage
from functools import lru_cache
from pathlib import Path
from typing import Any, TypeVar, cast, overload

import httpx2
import pytest
import structlog
from fastapi import FastAPI
from pymongo import MongoClient
from pymongo.asynchronous.database import AsyncDatabase

from core.config import Settings, get_settings
from core.database import Database
from core.dev.servers import MAIL, MAILDIR, MONGODB, free_port, needed_servers, start_server
from core.entry import load_service
from core.logging import add_correlation_id, console_renderer
from core.models import UserModel
from core.services.accounts import hash_password
from core.services.sessions import start_session
from core.tasks.engines import DEFAULT
from core.web import create_app
from core.web.auth import COOKIE

__all__ = [
    "PASSWORD",
    "Mailbox",
    "app",
    "client",
    "db",
    "eventually",
    "mailbox",
    "running_worker",
    "settings",
    "signed_in",
    "stranger",
    "user",
]

T = TypeVar("T")

WORKER_STOP_SECONDS = 30
PASSWORD = "correct horse battery staple"
"""The password of the fixture `user`."""


def pytest_configure() -> None:
    """Send log lines to the standard library's loggers, where pytest and its `caplog` find them."""
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            add_correlation_id,
            console_renderer(colors=False),
        ],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
    )


class Mailbox:
    """What the SMTP server received since the test began."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    @property
    def messages(self) -> list[EmailMessage]:
        """The received messages, the oldest first."""
        maildir = mailboxes.Maildir(self._folder, create=True)
        received = (maildir.get_bytes(key) for key in sorted(maildir.keys(), key=_arrival))
        return [message_from_bytes(content, policy=policy.default) for content in received]

    def clear(self) -> None:
        """Forget them."""
        mailboxes.Maildir(self._folder, create=True).clear()


@overload
async def eventually(check: Callable[[], Awaitable[T]], seconds: float = ...) -> T: ...


@overload
async def eventually(check: Callable[[], T], seconds: float = ...) -> T: ...


async def eventually(check: Callable[[], Any], seconds: float = 10) -> Any:
    """Wait for what workers do: call `check` until it returns something true, and return that.

    Args:
        check: A function, plain or async.
        seconds: For how long.

    Raises:
        TimeoutError: It did not.
    """
    async with asyncio.timeout(seconds):
        while True:
            value = check()
            if inspect.isawaitable(value):
                value = await value
            if value:
                return value
            await asyncio.sleep(0.05)


def _arrival(key: str) -> list[int]:
    """Seconds and microseconds, with which a key of a Maildir begins: `1795245832.M52345P12...`."""
    return [int(number) for number in re.findall(r"\d+", key)[:2]]


@dataclass(frozen=True)
class Servers:
    """What a test run shares: the settings that name servers and database, and where mail arrives."""

    environment: dict[str, str]
    mail: Path


@pytest.fixture(scope="session")
def servers() -> Iterator[Servers]:
    """Real servers for this run."""
    folder = Path(tempfile.mkdtemp(prefix="test-servers-"))
    environment = {"MONGODB_DATABASE": f"test-{secrets.token_hex(6)}"}
    with ExitStack() as stack:
        stack.callback(shutil.rmtree, folder, ignore_errors=True)
        for server in needed_servers():
            if server is not MAIL and (
                url := os.environ.get(server.setting)
            ):  # tests send mail to nobody
                environment[server.setting] = url
                if server is MONGODB:
                    stack.callback(_drop, url, environment["MONGODB_DATABASE"])
                continue
            port = free_port()
            process = start_server(server, folder / server.name, port)
            stack.callback(process.wait)
            stack.callback(process.kill)  # there is nothing to save
            environment[server.setting] = server.url(port)
        yield Servers(environment, folder / MAIL.name / MAILDIR)


def _drop(url: str, database: str) -> None:
    with MongoClient[dict[str, Any]](url) as client:
        client.drop_database(database)


async def empty(database: Database) -> None:
    """Remove all documents: in a tenth of the time that it takes to make collections and indexes anew."""
    collections = database.client[database.name]
    for name in await collections.list_collection_names():
        await collections[name].delete_many({})


@pytest.fixture
def settings(
    request: pytest.FixtureRequest,
    servers: Servers,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> Iterator[Settings]:
    """The settings of this test, which its worker process gets too: an empty database and a queue of its own."""
    name = f"test-{secrets.token_hex(6)}"
    with_worker = "running_worker" in request.fixturenames
    environment = {
        **servers.environment,
        "ENVIRONMENT": "test",
        "SECRET_KEY": secrets.token_hex(32),
        "QUEUE_NAME": name,
        "TASK_ENGINE": DEFAULT if with_worker else "local",
        "TASK_GRACE_PERIOD": "5",
        "BLOB_URL": str(tmp_path / "blobs"),
    }
    for variable, value in environment.items():
        monkeypatch.setenv(variable, value)
    get_settings.cache_clear()
    yield get_settings()
    get_settings.cache_clear()


@pytest.fixture
async def app(settings: Settings) -> AsyncIterator[FastAPI]:
    """The application, with its lifespan."""
    app = create_app(load_service(settings), settings)
    async with app.router.lifespan_context(app):
        yield app
        await empty(app.state.database)


@pytest.fixture
async def db(app: FastAPI) -> AsyncDatabase[dict[str, Any]]:
    """An empty database, with the documents on it; the queue is open."""
    database = app.state.database
    return cast("AsyncDatabase[dict[str, Any]]", database.client[database.name])


@lru_cache(maxsize=1)
def _password_hash() -> str:
    return hash_password(PASSWORD)


@pytest.fixture
async def user(db: AsyncDatabase[dict[str, Any]]) -> UserModel:
    """A saved user, whose password is `core.testing.PASSWORD`."""
    user = UserModel(
        email="ada@example.com", display_name="Ada Lovelace", password_hash=_password_hash()
    )
    return await user.insert()


@pytest.fixture
async def client(app: FastAPI) -> AsyncIterator[httpx2.AsyncClient]:
    """An HTTP client of the application; it keeps cookies, and gets a 500 as a response."""
    async with _client_of(app) as client:
        yield client


def _client_of(app: FastAPI) -> httpx2.AsyncClient:
    transport = httpx2.ASGITransport(app, raise_app_exceptions=False)
    return httpx2.AsyncClient(transport=transport, base_url="http://test")


@pytest.fixture
async def signed_in(client: httpx2.AsyncClient, user: UserModel) -> httpx2.AsyncClient:
    """The same client, with a session of `user`."""
    client.cookies.set(COOKIE, await start_session(user))
    return client


@pytest.fixture
async def stranger(app: FastAPI) -> AsyncIterator[httpx2.AsyncClient]:
    """A client with a session of somebody else, who may see nothing of `user`."""
    somebody = UserModel(
        email="eve@example.com", display_name="Eve", password_hash=_password_hash()
    )
    async with _client_of(app) as client:
        client.cookies.set(COOKIE, await start_session(await somebody.insert()))
        yield client


@pytest.fixture
def mailbox(servers: Servers) -> Mailbox:
    """What SMTP really received since the test began."""
    mailbox = Mailbox(servers.mail)
    mailbox.clear()
    return mailbox


@pytest.fixture
async def running_worker(app: FastAPI) -> AsyncIterator["subprocess.Popen[bytes] | None"]:
    """A real worker process on this test's queue; None where the job queue is off and jobs run in this process."""
    if DEFAULT == "local":
        yield None
        return
    process = subprocess.Popen([sys.executable, "-m", "core", "worker"])
    try:
        yield process
        assert process.poll() is None, (
            f"the worker ended by itself with status {process.returncode}"
        )
    finally:
        process.terminate()
        try:
            process.wait(WORKER_STOP_SECONDS)
        finally:
            process.kill()

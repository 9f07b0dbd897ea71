"""A pytest plugin: the service on real servers, with an empty database for each test.

The fixtures are `db`, `user`, `client`, `signed_in`, `stranger`, `mailbox` and `running_worker`.
Jobs run in the test's own process. With `running_worker` they run in a real worker process, on a
real queue. `eventually` waits for the effects of jobs.

If `MONGODB_URL` or `REDIS_URL` is set in the environment, the tests use that server. Otherwise the
plugin starts servers for the run and removes them after it. No email leaves the machine.
"""

import asyncio
import inspect
import mailbox as mailboxes
import os
import secrets
import shutil
import subprocess
import sys
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable, Generator, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from email import message_from_bytes, policy
from email.message import EmailMessage
from functools import lru_cache
from http import HTTPStatus
from http.client import HTTPConnection, HTTPException
from pathlib import Path
from typing import Any, TypeVar, cast, overload

import httpx2
import pytest
import structlog
from fastapi import FastAPI
from pymongo import AsyncMongoClient, MongoClient
from pymongo.asynchronous.database import AsyncDatabase

from core.config import ROOT, Settings, SettingsError, get_settings
from core.database import Database
from core.dev.servers import (
    HOST,
    MAIL,
    MONGODB,
    Server,
    free_port,
    needed_servers,
    start_server,
)
from core.entry import check_own_settings, load_service
from core.local_servers import MAILDIR
from core.logging import add_correlation_id
from core.logging.console import console_renderer
from core.migrations import apply, find_migration, take_back
from core.models import UserModel
from core.services.accounts import hash_password
from core.services.sessions import start_session
from core.tasks.engines import DEFAULT
from core.web import create_app
from core.web.auth import COOKIE
from core.web.mail_viewer import arrival

__all__ = [
    "PASSWORD",
    "Mailbox",
    "app",
    "client",
    "db",
    "eventually",
    "mailbox",
    "run_migration",
    "running_worker",
    "settings",
    "signed_in",
    "stranger",
    "user",
]

T = TypeVar("T")

POLL_SECONDS = 0.05
ANSWER_SECONDS = 1.0
READY_SECONDS = 60
WORKER_START_SECONDS = 120
WORKER_STOP_SECONDS = 60
PASSWORD = "correct horse battery staple"
"""The password of the user in the fixture `user`."""


NEVER_AWAITED = "was never awaited"
ORIGIN_DEPTH = 5
"""The number of frames that tell where a coroutine was made. Three of them are in `core/`."""

# Otherwise a test that forgets an `await` would pass, with only a warning.
FORGOTTEN_AWAIT = (
    "error:coroutine .* was never awaited:RuntimeWarning",
    "error:(?s).*was never awaited:pytest.PytestUnraisableExceptionWarning",
)


def pytest_configure(config: pytest.Config) -> None:
    """Let a forgotten `await` fail its test, and send log lines to pytest's `caplog`."""
    for warning in FORGOTTEN_AWAIT:
        config.addinivalue_line("filterwarnings", warning)
    sys.set_coroutine_origin_tracking_depth(ORIGIN_DEPTH)
    configure_test_logging()
    if not all(argument.startswith("core/") for argument in config.args):
        _check_own_settings()


def _check_own_settings() -> None:
    """End the run with one line, instead of one traceback for each test."""
    default = Settings.model_fields["service"].default
    try:
        check_own_settings(os.environ.get("SERVICE", default))
    except SettingsError as error:
        raise pytest.UsageError(f"{error}. For tests, tests/conftest.py can set it.") from None


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item,
    call: pytest.CallInfo[None],
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Name the line that made a coroutine without awaiting it, instead of pytest's own frames."""
    report = yield
    cause = call.excinfo.value.__cause__ if call.excinfo else None
    if isinstance(cause, RuntimeWarning) and NEVER_AWAITED in str(cause):
        report.longrepr = f"{cause}\nWrite `await` before this call."
    return report


def configure_test_logging() -> None:
    """Send log lines to the standard library's loggers, which pytest's `caplog` reads."""
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
    """The emails that the SMTP server has received since the test began."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    @property
    def messages(self) -> list[EmailMessage]:
        """The received messages, oldest first."""
        maildir = self._open()
        keys = sorted(maildir.keys(), key=arrival)
        return [_parse(maildir.get_bytes(key)) for key in keys]

    def clear(self) -> None:
        """Remove all messages."""
        self._open().clear()

    def _open(self) -> mailboxes.Maildir:
        return mailboxes.Maildir(self._folder, create=True)


def _parse(content: bytes) -> EmailMessage:
    return message_from_bytes(content, policy=policy.default)


@overload
async def eventually(check: Callable[[], Awaitable[T]], seconds: float = ...) -> T: ...


@overload
async def eventually(check: Callable[[], T], seconds: float = ...) -> T: ...


async def eventually(check: Callable[[], Any], seconds: float = 30) -> Any:
    """Call a function until it returns a true value, and return this value.

    Args:
        check: The function. It may be async.
        seconds: The longest time to wait, in seconds.

    Raises:
        TimeoutError: The function returned no true value in this time.
    """
    async with asyncio.timeout(seconds):
        while True:
            value = check()
            if inspect.isawaitable(value):
                value = await value
            if value:
                return value
            await asyncio.sleep(POLL_SECONDS)


@dataclass(frozen=True)
class Servers:
    """The servers of a test run.

    Attributes:
        environment: The settings with the servers' URLs and the database's name.
        mail: The Maildir of the SMTP server.
    """

    environment: dict[str, str]
    mail: Path


@pytest.fixture(scope="session")
def servers() -> Iterator[Servers]:
    """Real servers, which this test run shares."""
    folder = Path(tempfile.mkdtemp(prefix="test-servers-"))
    database = f"test-{secrets.token_hex(6)}"
    environment = {"MONGODB_DATABASE": database}
    with ExitStack() as stack:
        stack.callback(shutil.rmtree, folder, ignore_errors=True)
        for server in needed_servers():
            url = os.environ.get(server.setting)
            # The tests never use a real SMTP server.
            if not url or server is MAIL:
                url = _start(server, folder, stack)
            elif server is MONGODB:
                stack.callback(_drop, url, database)
            environment[server.setting] = url
        yield Servers(environment, folder / MAIL.name / MAILDIR)


def _start(server: Server, folder: Path, stack: ExitStack) -> str:
    """Start a server until the end of the run, and return its URL."""
    port = free_port()

    def on_start(process: "subprocess.Popen[bytes]") -> None:
        stack.callback(process.wait)
        stack.callback(process.kill)
        stack.enter_context(_guard(process, folder))

    start_server(server, folder / server.name, port, on_start)
    return server.url(port)


@contextmanager
def _guard(server: "subprocess.Popen[bytes]", folder: Path) -> Iterator[None]:
    """Kill a server and remove its data if this process is killed inside of the block."""
    # The shell waits for the end of its input, which only this process holds open.
    command = ["sh", "-c", 'cat; kill -KILL "$0"; rm -rf "$1"', str(server.pid), str(folder)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, start_new_session=True) as guard:
        yield
        guard.kill()


def _drop(url: str, database: str) -> None:
    with MongoClient[dict[str, Any]](url) as client:
        client.drop_database(database)


async def empty(settings: Settings) -> None:
    """Delete all documents of a test, after its service has stopped.

    A job that still runs could store more. Collections stay, because it takes long to create their
    indexes.

    Args:
        settings: The settings of the test.
    """
    url = str(settings.mongodb_url)
    async with AsyncMongoClient[dict[str, Any]](url) as client:
        database = client[settings.mongodb_database]
        for name in await database.list_collection_names():
            await database[name].delete_many({})


async def wait_until_ready(database: Database) -> None:
    """Wait for the indexes. On a busy machine, they take longer than a service waits for them.

    Args:
        database: The database of the test.

    Raises:
        DatabaseUnavailable: The database cannot be reached.
    """
    with suppress(TimeoutError):
        await asyncio.wait_for(database.ready.wait(), READY_SECONDS)
    database.require()


@pytest.fixture
def settings(
    request: pytest.FixtureRequest,
    servers: Servers,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> Iterator[Settings]:
    """The settings of this test and of its worker process, with a new queue."""
    name = f"test-{secrets.token_hex(6)}"
    with_worker = "running_worker" in request.fixturenames
    environment = {
        **servers.environment,
        "ENVIRONMENT": "test",
        "PUBLIC_URL": "http://127.0.0.1:8000",
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
    """The application, started. Its database is emptied after the test."""
    app = create_app(load_service(settings), settings)
    async with app.router.lifespan_context(app):
        await wait_until_ready(app.state.database)
        yield app
    await empty(settings)


@pytest.fixture
async def db(app: FastAPI) -> AsyncDatabase[dict[str, Any]]:
    """The test's database, which is empty. Documents can be used and jobs can be enqueued."""
    database = app.state.database
    return cast("AsyncDatabase[dict[str, Any]]", database.client[database.name])


async def _save_user(email: str, name: str) -> UserModel:
    user = UserModel(email=email, display_name=name, password_hash=_password_hash())
    return await user.insert()


@lru_cache(maxsize=1)
def _password_hash() -> str:
    return hash_password(PASSWORD)


@pytest.fixture
async def user(db: AsyncDatabase[dict[str, Any]]) -> UserModel:
    """A saved user, Ada Lovelace. Her password is `core.testing.PASSWORD`."""
    return await _save_user("ada@example.com", "Ada Lovelace")


@pytest.fixture
async def client(app: FastAPI) -> AsyncIterator[httpx2.AsyncClient]:
    """An HTTP client of the application. It keeps cookies. An exception becomes a response 500."""
    async with _open_client(app) as client:
        yield client


def _open_client(app: FastAPI) -> httpx2.AsyncClient:
    transport = httpx2.ASGITransport(app, raise_app_exceptions=False)
    return httpx2.AsyncClient(transport=transport, base_url="http://test")


@pytest.fixture
async def signed_in(client: httpx2.AsyncClient, user: UserModel) -> httpx2.AsyncClient:
    """The fixture `client`, logged in as `user`."""
    client.cookies.set(COOKIE, await start_session(user))
    return client


@pytest.fixture
async def stranger(app: FastAPI) -> AsyncIterator[httpx2.AsyncClient]:
    """An HTTP client that is logged in as another user, who must not see the data of `user`."""
    eve = await _save_user("eve@example.com", "Eve")
    async with _open_client(app) as client:
        client.cookies.set(COOKIE, await start_session(eve))
        yield client


@pytest.fixture
def mailbox(servers: Servers) -> Mailbox:
    """The emails that the SMTP server has received since the test began."""
    mailbox = Mailbox(servers.mail)
    mailbox.clear()
    return mailbox


async def run_migration(name: str, back: bool = False) -> None:
    """Run a migration of `app/migrations` on the test's database. The test needs the fixture `db`.

    Args:
        name: The migration's name, with or without the time in front of it.
        back: Whether to run `Backward` instead of `Forward`.

    Raises:
        UserError: The migration does not exist, or failed.
    """
    migration = find_migration(name)
    await (take_back(migration) if back else apply(migration))


@pytest.fixture
async def running_worker(app: FastAPI) -> AsyncIterator["subprocess.Popen[bytes] | None"]:
    """A real worker process on the test's queue. The test begins when the worker takes jobs.

    If the job queue is off, jobs run in the test's process and the value is None.
    """
    if DEFAULT == "local":
        yield None
        return
    port = free_port()
    environment = {**os.environ, "WORKER_PORT": str(port)}
    command = [sys.executable, "-m", "core", "worker"]
    process = subprocess.Popen(command, cwd=ROOT, env=environment)

    def takes_jobs() -> bool:
        _check_running(process)
        return _answers(port, "/health/ready")

    try:
        await eventually(takes_jobs, WORKER_START_SECONDS)
        yield process
        _check_running(process)
    finally:
        process.terminate()
        try:
            process.wait(WORKER_STOP_SECONDS)
        finally:
            process.kill()


def _check_running(process: "subprocess.Popen[bytes]") -> None:
    status = process.poll()
    assert status is None, f"the worker ended with status {status} during the test"


def _answers(port: int, path: str) -> bool:
    """Return whether a server of this machine answers a request with the status 200."""
    connection = HTTPConnection(HOST, port, timeout=ANSWER_SECONDS)
    try:
        connection.request("GET", path)
        return connection.getresponse().status == HTTPStatus.OK
    except (OSError, HTTPException):
        return False
    finally:
        connection.close()

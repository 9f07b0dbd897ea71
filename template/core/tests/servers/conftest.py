"""The running service's worker, and its command line."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping

import pytest
from fastapi import FastAPI

from core.config import Settings
from core.tasks import Worker
from core.tests import service
from core.tests.servers.browsers import Browser, open_browsers
from core.tests.servers.changed_app import OpenClient, make_open_client
from core.tests.servers.command_line import CommandLine, Done


@pytest.fixture
async def app_worker(app: FastAPI) -> AsyncIterator[Worker]:
    """The worker of `app`. Tasks that a test adds are removed after it."""
    tasks = service.worker.tasks.copy()
    yield service.worker
    service.worker.tasks.clear()
    service.worker.tasks.update(tasks)


@pytest.fixture(scope="session")
def command_line() -> Iterator[CommandLine]:
    """A process that runs commands."""
    command_line = CommandLine()
    yield command_line
    command_line.close()


@pytest.fixture
def command(command_line: CommandLine, settings: Settings) -> Callable[..., Awaitable[Done]]:
    """Return a function that runs `python -m core ...` with the settings of this test."""

    async def run(*arguments: str, typed: str = "") -> Done:
        return await asyncio.to_thread(command_line.run, *arguments, typed=typed)

    return run


@pytest.fixture
def open_client(app: FastAPI, settings: Settings, monkeypatch: pytest.MonkeyPatch) -> OpenClient:
    """Return a function that makes a client of an application with these settings."""
    return make_open_client(app, settings, monkeypatch)


@pytest.fixture
async def browsers(app: FastAPI) -> AsyncIterator[Mapping[str, Browser]]:
    """The browsers of a `stranger`, a `user`, a `viewer` and an `admin`."""
    async with open_browsers(app) as opened:
        yield opened


@pytest.fixture
def admin(browsers: Mapping[str, Browser]) -> Browser:
    """The browser of an administrator."""
    return browsers["admin"]

"""Settings for each engine, and a worker that runs on it.

Each test runs on each engine of this service. `@pytest.mark.needs(Promise.BOUNDED)` skips a test
for an engine that does not promise this. The test's id then names it: `[arq-without-bounded]`.
"""

import subprocess
from collections.abc import Callable, Iterator
from contextlib import AbstractAsyncContextManager
from functools import cache
from pathlib import Path

import pytest
from pydantic_core import MultiHostUrl

from core.config import Settings
from core.dev.servers import HOST, MONGODB, free_port, start_server
from core.tasks import Worker
from core.tasks.engine import Promise
from core.tasks.engines import AVAILABLE, build_engine
from core.tests.queue_servers import queue_server
from core.tests.running import running

NOWHERE = {
    "secret_key": "x" * 32,
    "mongodb_url": "mongodb://127.0.0.1:1",
    "redis_url": "redis://127.0.0.1:1",
}
"""Settings with which an engine is built only to read its promises."""


@cache
def find_promises(engine: str) -> frozenset[Promise]:
    """Return what an engine promises.

    Args:
        engine: The engine's name.
    """
    settings = Settings.model_validate({**NOWHERE, "task_engine": engine})
    return build_engine(settings).promises


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Run a test on each engine, and skip it for engines that do not promise what it checks."""
    if "engine_settings" in metafunc.fixturenames:
        engines = [_choose(name, metafunc.definition) for name in AVAILABLE]
        metafunc.parametrize("engine_settings", engines, indirect=True)


def _choose(engine: str, test: pytest.Function) -> object:
    only = test.get_closest_marker("only")
    if only and only.args != (engine,):
        (other,) = only.args
        return _skip(engine, f"is-not-{other}", f"this test is about the engine {other}")
    needed = {promise for mark in test.iter_markers("needs") for promise in mark.args}
    missing = sorted(needed - find_promises(engine))
    if missing:
        reason = f"the engine {engine} does not promise: {', '.join(missing)}"
        return _skip(engine, f"without-{'-'.join(missing)}", reason)
    return pytest.param(engine, id=engine)


def _skip(engine: str, why: str, reason: str) -> object:
    return pytest.param(engine, id=f"{engine}-{why}", marks=pytest.mark.skip(reason))


@pytest.fixture
def engine_settings(request, settings: Settings) -> Settings:
    """The settings of a service that uses the engine `request.param`."""
    return settings.model_copy(update={"task_engine": request.param, "task_unknown_period": 0.0})


@pytest.fixture
def server(
    engine_settings: Settings, tmp_path: Path
) -> Iterator[tuple[int, "subprocess.Popen[bytes]"]]:
    """A queue's server of this test: its port and its process."""
    with queue_server(tmp_path) as (port, process):
        engine_settings.redis_url = MultiHostUrl(f"redis://{HOST}:{port}/0")
        yield port, process


@pytest.fixture
def mongod(
    engine_settings: Settings, tmp_path: Path
) -> Iterator[tuple[Callable[[], None], Callable[[], None]]]:
    """A MongoDB server of this test: a function that starts it, and one that stops it."""
    port = free_port()
    process = start_server(MONGODB, tmp_path / "mongod", port)
    processes = [process]

    def start() -> None:
        processes.append(start_server(MONGODB, tmp_path / "mongod", port))

    def stop() -> None:
        processes[-1].kill()
        processes[-1].wait()

    engine_settings.mongodb_url = MultiHostUrl(MONGODB.url(port))
    yield start, stop
    stop()


@pytest.fixture
def run(
    worker: Worker, engine_settings: Settings
) -> Callable[[], AbstractAsyncContextManager[Worker]]:
    """Return a function that opens `worker` for a block and runs its jobs in this process."""
    return lambda: running(worker, engine_settings)

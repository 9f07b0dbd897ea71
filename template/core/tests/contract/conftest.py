"""Settings for each engine, and a worker that runs on it."""

import subprocess
from collections.abc import Callable, Iterator
from contextlib import AbstractAsyncContextManager
from pathlib import Path

import pytest
from pydantic_core import MultiHostUrl

from core.config import Settings
from core.dev.servers import HOST
from core.tasks import Worker
from core.tasks.engines import AVAILABLE
from core.tests.queue_servers import queue_server
from core.tests.running import running


@pytest.fixture(params=AVAILABLE)
def engine_settings(request, settings: Settings) -> Settings:
    """The settings of a service that uses the engine `request.param`."""
    return settings.model_copy(update={"task_engine": request.param, "task_unknown_period": 0.0})


@pytest.fixture
def server(
    engine_settings: Settings, tmp_path: Path
) -> Iterator[tuple[int, "subprocess.Popen[bytes]"]]:
    """A queue's server of this test: its port and its process. An engine without one is skipped."""
    if engine_settings.task_engine == "local":
        pytest.skip("this engine has no server")
    with queue_server(tmp_path) as (port, process):
        engine_settings.redis_url = MultiHostUrl(f"redis://{HOST}:{port}/0")
        yield port, process


@pytest.fixture
def run(
    worker: Worker, engine_settings: Settings
) -> Callable[[], AbstractAsyncContextManager[Worker]]:
    """Return a function that opens `worker` for a block and runs its jobs in this process."""
    return lambda: running(worker, engine_settings)

"""Settings for each engine, and a worker that runs on it."""

from collections.abc import Callable
from contextlib import AbstractAsyncContextManager

import pytest

from core.config import Settings
from core.tasks import Worker
from core.tasks.engines import AVAILABLE
from core.tests.running import running


@pytest.fixture(params=AVAILABLE)
def engine_settings(request, settings: Settings) -> Settings:
    """The settings of a service that uses the engine `request.param`."""
    return settings.model_copy(update={"task_engine": request.param, "task_unknown_period": 0.0})


@pytest.fixture
def run(
    worker: Worker, engine_settings: Settings
) -> Callable[[], AbstractAsyncContextManager[Worker]]:
    """Return a function that opens `worker` for a block and runs its jobs in this process."""
    return lambda: running(worker, engine_settings)

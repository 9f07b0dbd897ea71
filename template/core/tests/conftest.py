"""A worker without tasks, on each engine of this service."""

from collections.abc import Callable

import pytest

from core.config import Settings
from core.tasks import Worker
from core.tasks.engines import AVAILABLE
from core.tests.running import running


@pytest.fixture(params=AVAILABLE)
def engine_settings(request, settings: Settings) -> Settings:
    return settings.model_copy(update={"task_engine": request.param, "task_unknown_period": 0.0})


@pytest.fixture
def worker() -> Worker:
    return Worker()


@pytest.fixture
async def run(worker: Worker, engine_settings: Settings) -> Callable[[], object]:
    """Opens the worker, and runs jobs in this process."""
    return lambda: running(worker, engine_settings)

"""A worker that runs its jobs in the process of the test, on any engine."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from core.config import Settings
from core.entry import Service, open_service
from core.tasks import Worker
from core.testing import empty, wait_until_ready

WAIT = 30
"""Seconds after which a test that waits for a job fails."""


@asynccontextmanager
async def consuming(worker: Worker) -> AsyncIterator[None]:
    """Run the jobs of an open worker for a block. The engine `local` runs them in any case.

    Args:
        worker: The worker.
    """
    if worker.queue.engine.in_process:
        yield
        return
    async with worker._consuming():
        yield


@asynccontextmanager
async def running(worker: Worker, settings: Settings) -> AsyncIterator[Worker]:
    """Open a worker and its database for a block, and run its jobs.

    Args:
        worker: The worker.
        settings: The settings, which name the engine.
    """
    service = Service([], [], worker)
    try:
        async with (
            open_service(service, settings) as database,
            worker.watch(),
            consuming(worker),
        ):
            await wait_until_ready(database)
            yield worker
    finally:
        await empty(settings)


def nest(levels: int) -> list[object]:
    """Return a number in a list in a list, and so on.

    Args:
        levels: The number of lists.
    """
    value: list[object] = [0]
    for _ in range(levels - 1):
        value = [value]
    return value

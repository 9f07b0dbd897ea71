"""A worker that runs its jobs in the test's own process, on any engine."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from core.config import Settings
from core.entry import Service, open_service
from core.tasks import Worker
from core.testing import empty


@asynccontextmanager
async def running(worker: Worker, settings: Settings) -> AsyncIterator[Worker]:
    """The worker, open with its database and running jobs."""
    async with open_service(Service([], [], worker), settings) as database:
        stop = asyncio.Event()
        in_process = worker.queue.engine.in_process
        consumer = None if in_process else asyncio.create_task(worker.run(stop))
        try:
            yield worker
        finally:
            stop.set()
            if consumer:
                await consumer
            await empty(database)

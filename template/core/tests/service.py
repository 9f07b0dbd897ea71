"""The service that these tests run instead of the user's."""

from core.entry import Service
from core.tasks import Worker

worker = Worker()


@worker.task(max_retries=0)
async def ship(order: str) -> None: ...


@worker.every(hours=1, id="hourly")
@worker.task
async def tidy() -> None: ...


service = Service(documents=[], routers=[], worker=worker)

"""A service with a broken schedule and a valid one."""

from core.entry import Service
from core.tasks import Worker

worker = Worker()


@worker.cron("0 9 * *", name="The report")
async def report() -> None: ...


@worker.every(hours=1, name="The visit")
async def visit() -> None: ...


service = Service(documents=[], routers=[], worker=worker)

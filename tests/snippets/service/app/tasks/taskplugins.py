import asyncio

from app.pasted.notes import note
from app.tasks.worker import worker

items = ["good", "bad"]
calls: list[str] = []


async def call_external_api() -> str:
    calls.append("call")
    if len(calls) == 1:
        raise ConnectionError("not now")
    return "data"


async def do_work() -> str:
    return "work"


async def long_running_operation() -> None:
    raise asyncio.TimeoutError


async def is_already_processed() -> bool:
    return bool(calls) and calls[-1] == "processed"


async def do_processing() -> None:
    note("processing")


async def mark_as_processed() -> None:
    calls.append("processed")


async def process(item: str) -> None:
    if item == "bad":
        raise ValueError("bad item")


# paste: scheduled-tasks.md, Task Container (`taskplugins.py`)

# paste: scheduled-tasks.md, Error Handling and Retries

# paste: scheduled-tasks.md, Task Logs

# paste: scheduled-tasks.md, 1. Always Handle Exceptions

# paste: scheduled-tasks.md, 2. Use Timeouts

# paste: scheduled-tasks.md, 4. Idempotent Tasks

# paste: scheduled-tasks.md, 5. Logging


sync_with_api = worker.task(api_sync_task)

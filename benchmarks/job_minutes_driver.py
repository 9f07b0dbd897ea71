"""Measures statistics. `job_minutes.py` runs this in the service that it renders."""

import asyncio
import os
import random
import secrets
import sys
import tempfile
from datetime import UTC, datetime, timedelta
from pathlib import Path
from time import perf_counter
from typing import Any

from bson import ObjectId, encode
from driver_servers import run_servers

from app.main import service
from core.config import get_settings
from core.dev.servers import MONGODB
from core.entry import open_service
from core.models import MinuteModel
from core.tasks.minutes import KEPT, MinuteCounts

TASKS = 1_000
WORKERS = 2
RUNS = 20
NOTES = 200_000
HOUR = timedelta(hours=1)
DAY = timedelta(days=1)
COVERED = {1440: KEPT, 60: KEPT, 1: 2 * HOUR}
"""For how long there are documents, by their minutes."""
READS: dict[str, dict[str, Any]] = {
    "an hour": {"since": HOUR},
    "an hour by minutes, the sum": {"since": HOUR, "step": HOUR / 60, "by_task": False},
    "a day": {"since": DAY},
    "a day by hours, the sum": {"since": DAY, "step": HOUR, "by_task": False},
    "a day by hours": {"since": DAY, "step": HOUR},
    "14 days": {"since": KEPT},
    "14 days by days": {"since": KEPT, "step": DAY},
    "14 days by hours, one task": {"since": KEPT, "step": HOUR, "task": "send_reminder_1"},
}


def note_runs(counts: MinuteCounts, task: str) -> None:
    for _ in range(RUNS):
        counts.note_end(task, "completed", random.lognormvariate(-2, 1))
        counts.note_wait(task, random.lognormvariate(-5, 1))


def measure_note() -> float:
    """Return the seconds that statistics take for a job."""
    counts = MinuteCounts("worker")
    started = perf_counter()
    for _ in range(NOTES):
        counts.note_end("task", "completed", 0.03)
        counts.note_wait("task", 0.001)
    return (perf_counter() - started) / NOTES


async def fill(tasks: int, workers: int) -> int:
    """Store the documents, and return the bytes of one of them."""
    counts = MinuteCounts("0" * 12)
    for number in range(tasks):
        note_runs(counts, f"send_reminder_{number}")
    await counts.write(is_last=True)
    collection = MinuteModel.get_pymongo_collection()
    model = await collection.find_one({"minutes": 1}) or {}
    await collection.delete_many({})
    now = datetime.now(UTC).timestamp() // 60 * 60
    for minutes, covered in COVERED.items():
        last = now - now % (minutes * 60)
        for number in range(covered // timedelta(minutes=minutes)):
            start = datetime.fromtimestamp(last - number * minutes * 60, UTC)
            changed = {**model, "start": start, "minutes": minutes}
            documents = [{**changed, "_id": ObjectId()} for _ in range(workers)]
            await collection.insert_many(documents)
    return len(encode(model))


async def measure(tasks: int, workers: int) -> None:
    print(f"a job: {measure_note() * 1e6:.2f} us")
    async with open_service(service, get_settings()):
        size = await fill(tasks, workers)
        print(f"a minute of {tasks:,} tasks: {size:,} bytes, {size / tasks:.0f} for a task")
        database = MinuteModel.get_pymongo_collection().database
        stored = await database.command("collStats", "job_minutes")
        share = stored["storageSize"] / stored["size"]
        print(f"on disk: {share:.2f} of it, indexes {stored['totalIndexSize'] / 1024:.0f} kB")
        for name, options in READS.items():
            since = datetime.now(UTC) - options["since"]
            started = perf_counter()
            await service.worker.statistics.read(**{**options, "since": since})
            print(f"{name}: {perf_counter() - started:.2f} s")


def main() -> None:
    tasks = int(sys.argv[1]) if len(sys.argv) > 1 else TASKS
    workers = int(sys.argv[2]) if len(sys.argv) > 2 else WORKERS
    with tempfile.TemporaryDirectory() as folder:
        os.environ["SECRET_KEY"] = secrets.token_hex(32)
        os.environ["TASK_ENGINE"] = "local"
        os.environ["BLOB_URL"] = f"{folder}/blobs"
        with run_servers(Path(folder), MONGODB):
            asyncio.run(measure(tasks, workers))


if __name__ == "__main__":
    main()

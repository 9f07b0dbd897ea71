"""Measures kept runs in MongoDB. `run_memory.py` runs this in the service that it renders."""

import asyncio
import os
import secrets
import sys
import tempfile
import time
from pathlib import Path
from typing import Any
from uuid import uuid4

from driver_servers import run_servers
from pymongo.asynchronous.collection import AsyncCollection

from app.main import service
from core.config import get_settings
from core.dev.servers import MONGODB, VALKEY
from core.entry import open_service
from core.models import RunModel
from core.tasks import history
from core.tasks.message import Message
from core.tasks.records import JobRecord

RUNS = 100_000
BATCH = 5_000
TASKS = 10
OWNERS = 1_000
UNUSED_INDEXES = ("task_1", "schedule_1", "started_at_1")
OLD_INDEXES = ("job_id", "task", "schedule", "started_at", "expires_at")
NEW_FIELDS = ("owner", "worker", "sampled")


def make_message(number: int) -> Message:
    """Return the message of a job that a request enqueued."""
    return Message(
        id=uuid4().hex,
        task=f"generate_report_{number % TASKS}",
        correlation_id=uuid4().hex,
        enqueued_at=time.time(),
        owner=f"{number % OWNERS:024x}",
    )


async def write_runs(count: int) -> float:
    """Note and write runs, and return the seconds that one takes to be noted."""
    runs = history.History(86400, 86400)
    record = JobRecord(worker=uuid4().hex[:12])
    seconds = 0.0
    for start in range(0, count, BATCH):
        messages = [make_message(number) for number in range(start, start + BATCH)]
        started = time.process_time()
        for message in messages:
            runs.note(message, record, "completed", 0.0123)
        seconds += time.process_time() - started
        await runs.write()
    return seconds / count


async def write_old_runs(old: AsyncCollection[dict[str, Any]]) -> None:
    """Write the same runs as 1.0.0 did."""
    for field in OLD_INDEXES:
        await old.create_index(field, sparse=field == "schedule")
    runs: list[dict[str, Any]] = []
    async for run in RunModel.get_pymongo_collection().find():
        kept = {name: value for name, value in run.items() if name not in NEW_FIELDS}
        runs.append({**kept, "schedule": None, "error": None})
    for start in range(0, len(runs), BATCH):
        await old.insert_many(runs[start : start + BATCH])


async def measure(collection: AsyncCollection[dict[str, Any]]) -> tuple[float, dict[str, float]]:
    """Return the bytes of a run's document, and its bytes in each index."""
    database = collection.database
    await database.client.admin.command("fsync")  # writes all sizes
    stats = await database.command("collStats", collection.name)
    count = stats["count"]
    indexes = {name: size / count for name, size in stats["indexSizes"].items()}
    return stats["size"] / count, indexes


async def main(count: int) -> None:
    history.BURST = float(count)
    async with open_service(service, get_settings()):
        collection = RunModel.get_pymongo_collection()
        seconds = await write_runs(count)
        history.BURST = history.RATE = 0.0
        skipped = await write_runs(count)
        print(f"a run is noted in {seconds * 1e6:.1f} µs, and skipped in {skipped * 1e6:.1f} µs")
        data, indexes = await measure(collection)
        total = sum(indexes.values())
        print(f"its document: {data:.0f} bytes, and {total:.0f} in indexes:")
        for name, size in sorted(indexes.items(), key=lambda each: -each[1]):
            print(f"    {size:5.1f}  {name}")
        old = collection.database["old_runs"]
        await write_old_runs(old)
        old_data, old_indexes = await measure(old)
        old_total = sum(old_indexes.values())
        print(f"as 1.0.0 stored it: {old_data:.0f} bytes, and {old_total:.0f} in indexes")
        unused = sum(old_indexes[name] for name in UNUSED_INDEXES)
        print(f"{unused:.0f} of them in indexes that are unused now")
        print(f"ratio: {(data + total) / (old_data + old_total):.2f}x")


if __name__ == "__main__":
    runs = int(sys.argv[1]) if len(sys.argv) > 1 else RUNS
    os.environ["SECRET_KEY"] = secrets.token_hex(32)
    os.environ["LOG_LEVEL"] = "WARNING"
    with tempfile.TemporaryDirectory() as folder, run_servers(Path(folder), MONGODB, VALKEY):
        asyncio.run(main(runs))

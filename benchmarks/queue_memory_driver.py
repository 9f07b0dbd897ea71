"""Measures the queue's server. `queue_memory.py` runs this in the service that it renders."""

import asyncio
import os
import secrets
import sys
import tempfile
from pathlib import Path
from typing import Any
from uuid import uuid4

from driver_servers import run_servers
from redis.asyncio import Redis

from app.main import service
from app.tasks.queue_memory import bare, note
from core.config import get_settings
from core.dev.servers import MONGODB, VALKEY
from core.entry import open_service
from core.tasks.engines.redis.client import GROUP

JOBS = 100_000
BATCH = 10_000
POLL_SECONDS = 0.5


async def used(redis: Redis) -> int:
    """Return the bytes that the server uses."""
    info = await redis.info("memory")
    return int(info["used_memory"])


async def add_keys(redis: Redis, count: int) -> float:
    """Return the bytes of a key with an empty value."""
    before = await used(redis)
    for _ in range(0, count, BATCH):
        await redis.mset({f"{{default}}:key:{uuid4().hex}": "" for _ in range(BATCH)})
    return (await used(redis) - before) / count


async def run_jobs() -> None:
    """Run all jobs of the queue."""
    engine = service.worker.queue.engine
    stop = asyncio.Event()
    running = asyncio.create_task(service.worker.run(stop))
    while True:
        await asyncio.sleep(POLL_SECONDS)
        stats = await engine.stats()
        if not stats.pending and not stats.running:
            break
    stop.set()
    await running


async def measure(redis: Redis, task: Any, arguments: list[int], count: int) -> tuple[float, float]:
    """Return the bytes of a pending job and of one that has ended."""
    before = await used(redis)
    for _ in range(0, count, BATCH):
        await task.enqueue_many([arguments] * BATCH)
    pending = (await used(redis) - before) / count
    await run_jobs()
    return pending, (await used(redis) - before) / count


async def measure_streams(redis: Redis) -> str:
    """Return how many entries and bytes the streams have."""
    streams = service.worker.queue.engine._client.streams
    entries = [await redis.xlen(stream) for stream in streams]
    sizes = [await redis.memory_usage(stream, samples=0) for stream in streams]
    return f"{sum(entries)} entries, {sum(sizes)} bytes"


async def main(count: int) -> None:
    settings = get_settings()
    async with open_service(service, settings), Redis.from_url(str(settings.redis_url)) as redis:
        key = await add_keys(redis, count)
        print(f"a key with an empty value: {key:.0f} bytes")
        await service.worker.queue.engine._client.run("create", GROUP)
        print(f"streams at first: {await measure_streams(redis)}")
        for name, task, arguments in (("no argument", bare, []), ("one argument", note, [1])):
            pending, ended = await measure(redis, task, arguments, count)
            ratios = f"{pending / key:.1f}x and {ended / key:.1f}x"
            print(f"{name}: {pending:.0f} bytes pending, {ended:.0f} ended, {ratios} that key")
        print(f"streams at the end: {await measure_streams(redis)}")


if __name__ == "__main__":
    jobs = int(sys.argv[1]) if len(sys.argv) > 1 else JOBS
    os.environ["SECRET_KEY"] = secrets.token_hex(32)
    os.environ["LOG_LEVEL"] = "WARNING"
    with tempfile.TemporaryDirectory() as folder, run_servers(Path(folder), MONGODB, VALKEY):
        asyncio.run(main(jobs))

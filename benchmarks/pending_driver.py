"""Measures CPU time. `pending.py` runs this in the service that it renders."""

import asyncio
import os
import secrets
import sys
import tempfile
import time
from contextlib import ExitStack
from itertools import count
from pathlib import Path
from statistics import median

import uvloop
from driver_servers import VALKEY_WITHOUT_PERSISTENCE, run_servers
from redis import Redis

from app.main import service
from app.tasks import pending
from core.config import get_settings
from core.dev.servers import MONGODB
from core.entry import open_service

FEW = 1000
MANY = 1_000_000
JOBS = 2000
PAIRS = 7
WARM_JOBS = 200
STATS_CALLS = 2000
BATCH = 10_000
FIGURES = (
    "enqueue_many of a job, caller",
    "enqueue_many of a job, server",
    "a job, worker",
    "a job, server",
    "stats(), caller",
    "stats(), server",
)


def cpu_seconds(redis: Redis) -> tuple[float, float]:
    """Return the CPU time that this process and the server have used so far.

    The event loop waits for the server, so no job runs between the two measurements.
    """
    info = redis.info("cpu")
    return time.process_time(), info["used_cpu_user"] + info["used_cpu_sys"]


async def fill(redis: Redis, wanted: int) -> list[float]:
    """Enqueue jobs until the queue has a number of pending ones.

    Returns:
        The seconds that a job took in this process and in the server.
    """
    stats = await service.worker.queue.engine.stats()
    missing = wanted - stats.pending
    before = cpu_seconds(redis)
    for done in range(0, missing, BATCH):
        await pending.note.enqueue_many([[1]] * min(BATCH, missing - done))
    after = cpu_seconds(redis)
    return [(end - begin) / missing for begin, end in zip(before, after, strict=True)]


async def run_jobs(redis: Redis, jobs: int) -> list[float]:
    """Run jobs in this process, and return the seconds that the worker and the server used."""
    stop = asyncio.Event()
    measured = []
    runs = count(1)

    def note_run() -> None:
        number = next(runs)
        if number in (WARM_JOBS, WARM_JOBS + jobs):
            measured.append(cpu_seconds(redis))
        if number == WARM_JOBS + jobs:
            stop.set()

    pending.note_run = note_run
    await service.worker.run(stop)
    before, after = measured
    return [(end - begin) / jobs for begin, end in zip(before, after, strict=True)]


async def call_stats(redis: Redis) -> list[float]:
    """Return the seconds that `stats()` used in this process and in the server."""
    before = cpu_seconds(redis)
    for _ in range(STATS_CALLS):
        await service.worker.queue.engine.stats()
    after = cpu_seconds(redis)
    return [(end - begin) / STATS_CALLS for begin, end in zip(before, after, strict=True)]


async def measure(url: str, size: int, jobs: int) -> list[float]:
    """Return the seconds of each of `FIGURES`, with a number of pending jobs."""
    settings = get_settings().model_copy(update={"redis_url": url})
    with Redis.from_url(url) as redis:
        async with open_service(service, settings):
            enqueued = await fill(redis, size + WARM_JOBS + jobs)
            run = await run_jobs(redis, jobs)
            return [*enqueued, *run, *await call_stats(redis)]


def main() -> None:
    many = int(sys.argv[1]) if len(sys.argv) > 1 else MANY
    jobs = int(sys.argv[2]) if len(sys.argv) > 2 else JOBS
    os.environ["SECRET_KEY"] = secrets.token_hex(32)
    os.environ["LOG_LEVEL"] = "WARNING"
    figures: dict[int, list[list[float]]] = {FEW: [], many: []}
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        stack.enter_context(run_servers(folder, MONGODB))
        urls = {}
        for size in figures:
            server = run_servers(folder / str(size), VALKEY_WITHOUT_PERSISTENCE)
            stack.enter_context(server)
            urls[size] = os.environ["REDIS_URL"]
            uvloop.run(measure(urls[size], size, jobs))  # fills the queue, and warms up
        for _ in range(PAIRS):
            for size, url in urls.items():
                figures[size].append(uvloop.run(measure(url, size, jobs)))
        with Redis.from_url(urls[many]) as redis:
            print(f"allocator of the server: {redis.info('memory')['mem_allocator']}")
    few, much = ([median(each) for each in zip(*rows, strict=True)] for rows in figures.values())
    for name, one, other in zip(FIGURES, few, much, strict=True):
        times = f"{one * 1e6:.1f} us at {FEW:,}, {other * 1e6:.1f} us at {many:,} pending"
        print(f"{name}: {times}, ratio {other / one:.2f}")


if __name__ == "__main__":
    main()

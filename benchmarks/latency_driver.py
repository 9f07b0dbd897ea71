"""Measures start latency. `latency.py` runs this in the service that it renders."""

import asyncio
import os
import secrets
import sys
import tempfile
import time
from pathlib import Path
from statistics import quantiles

import uvloop
from driver_hits import read_hits
from driver_servers import run_servers, run_worker

from core.config import get_settings
from core.dev.servers import MONGODB, VALKEY
from core.entry import open_service
from core.testing import eventually

JOBS = 2000
ROUND = 50
"""Jobs, cold PINGs and hot PINGs that take turns."""
PAUSE_SECONDS = 0.02


async def measure(jobs: int, file: Path) -> tuple[list[float], list[float], list[float]]:
    """Return the seconds until each job started, of each cold PING, and of each hot PING."""
    # The module of tasks opens the file that the environment names.
    from app.main import service
    from app.tasks.latency import note

    sent: dict[int, float] = {}
    cold: list[float] = []
    hot: list[float] = []
    async with open_service(service, get_settings()):
        redis = service.worker.queue.engine._client._redis

        async def send(number: int) -> None:
            sent[number] = time.time()
            await note.enqueue(number)

        async def ping(times: list[float]) -> None:
            started = time.perf_counter()
            await redis.ping()
            times.append(time.perf_counter() - started)

        await note.enqueue(-1)
        await eventually(lambda: read_hits(file))  # the worker has started
        for first in range(0, jobs, ROUND):
            begin = time.monotonic()
            for number in range(ROUND):
                await asyncio.sleep(begin + number * PAUSE_SECONDS - time.monotonic())
                await send(first + number)
            for _ in range(ROUND):
                await asyncio.sleep(PAUSE_SECONDS)
                await ping(cold)
            for _ in range(ROUND):
                await ping(hot)
        await eventually(lambda: len(read_hits(file)) > len(sent))
    starts = dict(read_hits(file))
    return [starts[number] - at for number, at in sent.items()], cold, hot


def main() -> None:
    jobs = int(sys.argv[1]) if len(sys.argv) > 1 else JOBS
    os.environ["SECRET_KEY"] = secrets.token_hex(32)
    os.environ["LOG_FORMAT"] = "json"
    with tempfile.TemporaryDirectory() as folder, run_servers(Path(folder), MONGODB, VALKEY):
        file = Path(folder) / "hits"
        os.environ["HITS"] = str(file)
        with run_worker(Path(folder) / "worker.log"):
            times = uvloop.run(measure(jobs, file))
    starts, cold, hot = (quantiles((each * 1000 for each in part), n=100) for part in times)
    print(
        f"start latency: p50 {starts[49]:.2f} ms, p99 {starts[98]:.2f} ms; "
        f"cold PING p50 {cold[49]:.2f} ms; hot PING p50 {hot[49]:.2f} ms; "
        f"ratio {starts[49] / cold[49]:.1f}x a cold PING"
    )


if __name__ == "__main__":
    main()

"""Measures `enqueue`. `enqueue.py` runs this in the service that it renders."""

import os
import secrets
import sys
import tempfile
from pathlib import Path
from statistics import median, quantiles
from time import perf_counter

import uvloop
from driver_servers import run_servers

from app.main import service
from app.tasks.enqueue import note
from core.config import get_settings
from core.context import TaskContext
from core.dev.servers import MONGODB, VALKEY
from core.entry import open_service

CALLS = 5000
WARM_CALLS = 200


async def measure(calls: int) -> tuple[list[float], list[float]]:
    """Send pings and enqueue jobs by turns.

    Args:
        calls: How many of each to measure. Some more run first, to warm up.

    Returns:
        The seconds of each ping, and of each `enqueue`.
    """
    pings = []
    enqueues = []
    async with open_service(service, get_settings()):
        redis = service.worker.queue.engine._client._redis
        for number in range(WARM_CALLS + calls):
            with TaskContext.use(f"request-{number}", "user-1"):
                started = perf_counter()
                await redis.ping()
                pinged = perf_counter()
                await note.enqueue("user-1", number)
                enqueued = perf_counter()
            pings.append(pinged - started)
            enqueues.append(enqueued - pinged)
    return pings[WARM_CALLS:], enqueues[WARM_CALLS:]


def print_times(name: str, times: list[float]) -> None:
    cuts = quantiles(times, n=100)
    print(f"{name:<15} p50 {cuts[49] * 1e6:5.0f} us, p99 {cuts[98] * 1e6:5.0f} us")


def main() -> None:
    calls = int(sys.argv[1]) if len(sys.argv) > 1 else CALLS
    os.environ["SECRET_KEY"] = secrets.token_hex(32)
    with (
        tempfile.TemporaryDirectory() as folder,
        run_servers(Path(folder), MONGODB, VALKEY),
    ):
        pings, enqueues = uvloop.run(measure(calls))
    print_times("one round trip", pings)
    print_times("enqueue", enqueues)
    ratio = median(enqueues) / median(pings)
    print(f"p50 of enqueue: {ratio:.2f}x one round trip (goal: 2.5x)")


if __name__ == "__main__":
    main()

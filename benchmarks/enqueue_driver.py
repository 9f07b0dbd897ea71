"""Run by `enqueue.py` inside the service that it renders."""

import os
import secrets
import sys
import tempfile
import time
from pathlib import Path
from statistics import median, quantiles

import uvloop

from app.main import service
from app.tasks.enqueue import note
from core.config import get_settings
from core.context import TaskContext
from core.dev.servers import MONGODB, VALKEY, free_port, start_server
from core.entry import open_service


async def measure(calls: int) -> None:
    pings, enqueues = [], []
    async with open_service(service, get_settings()):
        redis = service.worker.queue.engine._client.redis
        for number in range(calls + 200):
            with TaskContext.use(f"request-{number}", "user-1"):
                started = time.perf_counter()
                await redis.ping()
                pinged = time.perf_counter()
                await note.enqueue("user-1", number)
                enqueued = time.perf_counter()
            if number >= 200:  # warm
                pings.append(pinged - started)
                enqueues.append(enqueued - pinged)
    for name, times in (("one round trip", pings), ("enqueue", enqueues)):
        cuts = quantiles(times, n=100)
        print(f"{name:<15} p50 {cuts[49] * 1e6:5.0f} us, p99 {cuts[98] * 1e6:5.0f} us")
    print(f"p50 of enqueue: {median(enqueues) / median(pings):.2f}x one round trip (to reach: 1.5x)")


def main() -> None:
    calls = int(sys.argv[1]) if len(sys.argv) > 1 else 5000
    with tempfile.TemporaryDirectory() as folder:
        processes = []
        os.environ["SECRET_KEY"] = secrets.token_hex(32)
        try:
            for server in (MONGODB, VALKEY):
                port = free_port()
                processes.append(start_server(server, Path(folder) / server.name, port))
                os.environ[server.setting] = server.url(port)
            uvloop.run(measure(calls))
        finally:
            for process in processes:
                process.kill()
                process.wait()


if __name__ == "__main__":
    main()

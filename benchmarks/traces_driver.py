"""Measures a service, with traces on or off. `traces.py` runs this in services that it renders."""

import http.client
import json
import os
import secrets
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from driver_figures import count_completed, cpu_seconds
from driver_servers import VALKEY_WITHOUT_PERSISTENCE, run_servers, run_web, run_worker

from core.dev.servers import HOST, MONGODB, free_port

JOBS = 20_000
POLL_SECONDS = 1.0
"""Each look at the metrics takes the worker some milliseconds."""
REQUESTS = 5_000
IMPORT = """
import resource, sys, time
started = time.process_time()
import core.process
from core.config import get_settings
settings = get_settings()
if hasattr(core, "traces"):
    core.traces.start_tracing(settings, "worker")
seconds = time.process_time() - started
memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
print(seconds * 1000, len(sys.modules), memory)
"""
ENQUEUE = """
import asyncio
from app.main import service
from app.tasks.traces import nothing
from core.config import get_settings
from core.entry import open_service

async def main():
    async with open_service(service, get_settings()):
        await nothing.enqueue_many([[number] for number in range(JOBS)])

asyncio.run(main())
"""


class Collector(BaseHTTPRequestHandler):
    """Takes everything."""

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        self.send_response(200)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None: ...


def wait_for(check: Callable[[], bool], seconds: float = 0.05) -> None:
    while not check():
        time.sleep(seconds)


def measure_jobs(folder: Path) -> dict[str, float]:
    script = ENQUEUE.replace("JOBS", str(JOBS))
    subprocess.run([sys.executable, "-c", script], check=True, stderr=subprocess.DEVNULL)
    port = free_port()
    os.environ["WORKER_PORT"] = str(port)
    with run_worker(folder / "worker.log") as worker:
        wait_for(lambda: count_completed(port) > 0)
        done, cpu, started = count_completed(port), cpu_seconds(worker.pid), time.monotonic()
        wait_for(lambda: count_completed(port) == JOBS, POLL_SECONDS)
        seconds = time.monotonic() - started
        used = cpu_seconds(worker.pid) - cpu
    jobs = JOBS - done
    return {"job_us": used / jobs * 1e6, "jobs": jobs / seconds}


def measure_requests(folder: Path) -> dict[str, float]:
    port = free_port()
    with run_web(folder / "web.log", port) as web:
        connection = http.client.HTTPConnection(HOST, port)

        def request(times: int) -> None:
            for _ in range(times):
                connection.request("GET", "/me")
                assert connection.getresponse().read()

        request(200)
        cpu, started = cpu_seconds(web.pid), time.monotonic()
        request(REQUESTS)
        seconds = time.monotonic() - started
        used = cpu_seconds(web.pid) - cpu
    return {"request_us": used / REQUESTS * 1e6, "requests": REQUESTS / seconds}


def measure_import() -> dict[str, float]:
    for _ in range(2):  # the first one may compile modules
        done = subprocess.run(
            [sys.executable, "-c", IMPORT], check=True, capture_output=True, text=True
        )
    milliseconds, modules, memory = map(float, done.stdout.split())
    return {"import_ms": milliseconds, "modules": modules, "memory_mb": memory}


def main() -> None:
    os.environ |= {
        "SECRET_KEY": secrets.token_hex(32),
        "LOG_FORMAT": "json",
        "PYTHONPATH": ".",
        "MONGODB_URL": "mongodb://127.0.0.1:1",
    }
    os.environ.pop("OTEL_EXPORTER_OTLP_ENDPOINT", None)
    collector = ThreadingHTTPServer((HOST, 0), Collector)
    threading.Thread(target=collector.serve_forever, daemon=True).start()
    if sys.argv[1] == "on":
        os.environ["OTEL_EXPORTER_OTLP_ENDPOINT"] = f"http://{HOST}:{collector.server_port}"
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        figures = measure_import()
        with run_servers(folder, MONGODB, VALKEY_WITHOUT_PERSISTENCE):
            figures |= measure_jobs(folder)
            figures |= measure_requests(folder)
    print(json.dumps({name: round(value, 1) for name, value in figures.items()}))


if __name__ == "__main__":
    main()

"""Measures the console. `console.py` runs this in the service that it renders."""

import http.client
import os
import secrets
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from statistics import median
from typing import NamedTuple

import uvloop
from console_driver_data import Found, fill
from driver_figures import count_completed, cpu_seconds
from driver_servers import VALKEY_WITHOUT_PERSISTENCE, run_servers, run_web, run_worker
from redis import Redis

from app.main import service
from app.tasks.console import nothing
from core.config import get_settings
from core.dev.servers import HOST, MONGODB, free_port
from core.entry import open_service

PENDING = 1_000_000
DEAD_LETTERS = 100_000
JOBS = 60_000
WARM_REQUESTS = 2
REQUESTS = 20
PAIRS = 7
TABS = 4
REFRESH_SECONDS = 5.0
"""How often a browser requests the overview."""

POLL_SECONDS = 1.0
"""Each look at the metrics takes the worker some milliseconds."""
GOAL_MS = 300
PROBE = "/health/live"
OVERVIEW = "/console"


class Client:
    """A browser's connection to the web process."""

    def __init__(self, port: int, cookie: str) -> None:
        self._connection = http.client.HTTPConnection(HOST, port, timeout=60)
        self._headers = {"Cookie": cookie}

    def get(self, path: str) -> float:
        """Request a page, and return how many seconds its answer took."""
        started = time.perf_counter()
        self._connection.request("GET", path, headers=self._headers)
        answer = self._connection.getresponse()
        text = answer.read()
        seconds = time.perf_counter() - started
        if answer.status != http.HTTPStatus.OK:
            sys.exit(f"GET {path} was answered {answer.status}: {text[:500]!r}")
        return seconds


class Times(NamedTuple):
    """The milliseconds of a page."""

    path: str
    middle: float
    longest: float


def name_pages(found: Found) -> list[str]:
    """Return the paths of all pages of the console."""
    console = OVERVIEW
    selection = "&".join(f"id={job_id}" for job_id in found.jobs)
    states = ("pending", "scheduled", "running", "completed", "failed", "aborted")
    return [
        OVERVIEW,
        f"{console}/failures",
        f"{console}/failures?task=task_07",
        f"{console}/failures?task=task_07&error=KeyError&since=24h",
        f"{console}/failures?state=discarded",
        f"{console}/failures/{found.letter}",
        f"{console}/failures/confirm?action=replay&id={found.letter}",
        f"{console}/failures/confirm?action=replay&all=1",
        *(f"{console}/jobs?state={state}" for state in states),
        f"{console}/jobs?state=pending&task=nothing",
        f"{console}/jobs?state=pending&task=none",
        f"{console}/jobs?state=completed&task=task_07",
        f"{console}/jobs?state=completed&owner=user-7",
        f"{console}/jobs?state=failed&since=1h",
        f"{console}/jobs?find={found.jobs[0]}",
        f"{console}/jobs/{found.jobs[0]}",
        f"{console}/jobs/confirm?action=abort&all=1&state=pending",
        f"{console}/jobs/confirm?action=abort&all=1&state=pending&task=none",
        f"{console}/jobs/confirm?action=abort&{selection}",
        f"{console}/schedules",
        f"{console}/schedules?id={found.schedule}",
        f"{console}/workers",
        f"{console}/tasks",
        f"{console}/audit",
        f"{console}/audit?actor={found.user}",
        f"{console}/audit?action=job.replayed&since=24h",
    ]


def measure_pages(port: int, found: Found) -> list[Times]:
    client = Client(port, found.cookie)
    pages = [PROBE, *name_pages(found)]
    seconds: dict[str, list[float]] = {page: [] for page in pages}
    for number in range(WARM_REQUESTS + REQUESTS):
        for page in pages:  # by turns
            taken = client.get(page)
            if number >= WARM_REQUESTS:
                seconds[page].append(taken * 1000)
    return [Times(page, median(each), max(each)) for page, each in seconds.items()]


def print_pages(times: list[Times]) -> None:
    probe = times[0].middle
    print(f"\n{REQUESTS} requests of each page by turns, in ms, and the ratio to {PROBE}")
    for each in times:
        late = "  MISSED" if each.longest > GOAL_MS else ""
        times = f"p50 {each.middle:6.1f}  max {each.longest:6.1f}  {each.middle / probe:6.1f}x"
        print(f"{each.path[:75]:<75} {times}{late}")


@contextmanager
def open_consoles(port: int, cookie: str, tabs: int) -> Iterator[None]:
    """Refresh the overview in several tabs until the block ends."""
    has_ended = threading.Event()

    def refresh(delay: float) -> None:
        has_ended.wait(delay)
        while not has_ended.is_set():
            # A new connection, because the server closes one that was idle for so long.
            Client(port, cookie).get(OVERVIEW)
            has_ended.wait(REFRESH_SECONDS)

    delays = [REFRESH_SECONDS * tab / tabs for tab in range(tabs)]
    threads = [threading.Thread(target=refresh, args=(delay,)) for delay in delays]
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        has_ended.set()
        for thread in threads:
            thread.join()


async def enqueue(jobs: int) -> None:
    async with open_service(service, get_settings()):
        for done in range(0, jobs, 10_000):
            await nothing.enqueue_many([[1]] * min(10_000, jobs - done))


def measure_worker(folder: Path, jobs: int) -> float:
    """Return the microseconds of CPU time that a worker uses for a job."""
    uvloop.run(enqueue(jobs))
    port = free_port()
    os.environ["WORKER_PORT"] = str(port)
    with run_worker(folder / "worker.log") as worker:
        while (done := count_completed(port)) <= 0:
            time.sleep(0.05)
        before = cpu_seconds(worker.pid)
        while count_completed(port) < jobs:
            time.sleep(POLL_SECONDS)
        return (cpu_seconds(worker.pid) - before) / (jobs - done) * 1e6


def compare_workers(folder: Path, port: int, cookie: str, jobs: int) -> None:
    figures: dict[int, list[float]] = {0: [], TABS: []}
    for number in range(PAIRS):
        for tabs, each in figures.items():
            with open_consoles(port, cookie, tabs):
                each.append(measure_worker(folder, jobs))
        print(f"pair {number + 1}: {[round(each[-1], 1) for each in figures.values()]}", flush=True)
    closed, opened = (median(each) for each in figures.values())
    print(f"\na job, worker: {closed:.1f} us with the console closed, {opened:.1f} us with it open")
    print(f"in {TABS} tabs, ratio {opened / closed:.3f}")


def main() -> None:
    numbers = [int(argument) for argument in sys.argv[1:]]
    pending, letters, jobs = [*numbers, *(PENDING, DEAD_LETTERS, JOBS)[len(numbers) :]]
    os.environ |= {"SECRET_KEY": secrets.token_hex(32), "LOG_LEVEL": "WARNING"}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        with run_servers(folder, MONGODB, VALKEY_WITHOUT_PERSISTENCE):
            found = uvloop.run(fill(pending, letters))
            port = free_port()
            with run_web(folder / "web.log", port):
                print_pages(measure_pages(port, found))
                if jobs == 0:
                    return
                with Redis.from_url(os.environ["REDIS_URL"]) as redis:
                    redis.flushdb()
                compare_workers(folder, port, found.cookie, jobs)


if __name__ == "__main__":
    main()

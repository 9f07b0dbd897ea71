"""Measures queue systems. `overhead.py` runs this in the service that it renders."""

import os
import secrets
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from statistics import median

from driver_servers import run_servers

from core.dev.servers import MONGODB, VALKEY

JOBS = 20_000
RUNS = 3
CONCURRENCY = "50"

KILL_SECONDS = 2.0
KILLED_JOBS = 2000
KILLED_PAUSE = 0.02
KILLED_CONCURRENCY = 8
KILLED_IDLE = 5
STARTUP_SECONDS = 10.0
PATIENCE_SECONDS = 60.0
"""If no job ran for so long, the rest counts as lost."""

VALKEY_WITHOUT_PERSISTENCE = replace(
    VALKEY,
    command=lambda port, data: [*VALKEY.command(port, data), "--appendonly", "no"],
)

ENQUEUE = """
import asyncio, sys
from app.main import service
from app.tasks.overhead import job
from core.config import get_settings
from core.entry import open_service

async def main():
    async with open_service(service, get_settings()):
        await job.enqueue_many([[number] for number in range(int(sys.argv[1]))])

asyncio.run(main())
"""


@dataclass(frozen=True)
class System:
    """How to enqueue jobs and run a worker.

    Attributes:
        enqueue: The arguments of the command that enqueues. The number of jobs follows them.
        work: The arguments of the command that runs a worker.
        packages: The packages that the service's own environment does not have. If there are any,
            the arguments begin with a program. Otherwise the program is Python.
    """

    enqueue: list[str]
    work: list[str]
    packages: list[str] = field(default_factory=list)

    def command(self, arguments: list[str]) -> list[str]:
        if not self.packages:
            return [sys.executable, *arguments]
        python = f"{sys.version_info.major}.{sys.version_info.minor}"
        options = ["--quiet", "--no-project", "--python", python]
        for package in self.packages:
            options += ["--with", package]
        return [os.environ["UV"], "run", *options, *arguments]


SAQ = System(
    enqueue=["python", "saq_app.py"],
    work=["saq", "--quiet", "saq_app.settings"],
    packages=["saq[redis]==0.26.4"],
)
TASKIQ = System(
    enqueue=["python", "taskiq_app.py"],
    work=[
        *("taskiq", "worker", "--workers", "1", "--max-async-tasks", "{concurrency}"),
        *("--log-level", "WARNING", "taskiq_app:broker"),
    ],
    packages=["taskiq==0.13.0", "taskiq-redis==1.2.4"],
)
ARQ = System(
    enqueue=["python", "arq_app.py"],
    work=["arq", "arq_app.WorkerSettings"],
    packages=["arq==0.28.0"],
)
CELERY = System(
    enqueue=["python", "celery_app.py"],
    work=[
        *("celery", "-A", "celery_app", "worker", "-P", "prefork", "-c", "2"),
        *("--without-gossip", "--without-mingle"),
    ],
    packages=["celery[redis]==5.7.0"],
)
DRAMATIQ = System(
    enqueue=["python", "dramatiq_app.py"],
    work=["dramatiq", "dramatiq_app", "-p", "1", "-t", "8"],
    packages=["dramatiq[redis]==2.2.1"],
)
STREAQ = System(
    enqueue=["python", "streaq_app.py"],
    work=["python", "streaq_app.py", "work"],
    packages=["streaq==7.2.0"],
)
SYSTEMS = {
    "groundwork": System(enqueue=["-c", ENQUEUE], work=["-m", "core", "worker"]),
    "streaq": STREAQ,
    "saq": SAQ,
    "taskiq": TASKIQ,
    "arq": ARQ,
    "celery": CELERY,
    "dramatiq": DRAMATIQ,
}


class Run:
    """One run of a system.

    Args:
        system: The system.
        folder: The folder for the file of hits and the output of the system.
        variables: Additional variables of the environment.
    """

    def __init__(self, system: System, folder: Path, variables: dict[str, str]) -> None:
        self._system = system
        self._hits = folder / "hits"
        self._log = (folder / "output.log").open("wb")
        self._environment = {
            **os.environ,
            "LOG_FORMAT": "json",
            "TASK_RECORD_TTL": "300",
            "PYTHONPATH": ".",
            "UV_PYTHON_DOWNLOADS": "never",
            "HITS": str(self._hits),
            "CONCURRENCY": CONCURRENCY,
            **variables,
        }
        self._worker: subprocess.Popen[bytes] | None = None

    def enqueue(self, jobs: int) -> None:
        command = [*self._system.command(self._system.enqueue), str(jobs)]
        subprocess.run(command, env=self._environment, check=True, stdout=self._log)

    def start_worker(self) -> None:
        concurrency = self._environment["CONCURRENCY"]
        arguments = [each.replace("{concurrency}", concurrency) for each in self._system.work]
        self._worker = subprocess.Popen(
            self._system.command(arguments),
            env=self._environment,
            stdout=self._log,
            stderr=self._log,
            start_new_session=True,
        )

    def kill_worker(self) -> None:
        if self._worker:
            os.killpg(self._worker.pid, signal.SIGKILL)
            self._worker.wait()
            self._worker = None

    def hits_size(self) -> int:
        """Return the size of the file of hits in bytes."""
        return self._hits.stat().st_size if self._hits.exists() else 0

    def hits(self) -> list[tuple[int, float]]:
        """Return the number of each job that ran, and the time."""
        if not self._hits.exists():
            return []
        lines = [line.split() for line in self._hits.read_text().splitlines()]
        return [(int(number), float(at)) for number, at in lines]


@contextmanager
def start_run(name: str, parent: Path, **variables: str) -> Iterator[Run]:
    """Start a run with an empty queue server, and end the server and the worker with the block.

    Args:
        name: The name of the system.
        parent: The folder for the data of all runs.
        **variables: Additional variables of the environment.
    """
    folder = Path(tempfile.mkdtemp(dir=parent, prefix=name))
    with run_servers(folder, VALKEY_WITHOUT_PERSISTENCE):
        run = Run(SYSTEMS[name], folder, variables)
        try:
            yield run
        finally:
            run.kill_worker()


def measure_throughput(name: str, jobs: int, parent: Path) -> float:
    """Return the jobs a second, from the first job to the last.

    Args:
        name: The name of the system.
        jobs: The number of jobs.
        parent: The folder for the data of all runs.

    Raises:
        SystemExit: The worker stopped running jobs.
    """
    with start_run(name, parent) as run:
        run.enqueue(jobs)
        run.start_worker()
        size = 0
        last_progress = time.monotonic()
        while len(run.hits()) < jobs:
            time.sleep(0.2)
            if run.hits_size() != size:
                size = run.hits_size()
                last_progress = time.monotonic()
            if time.monotonic() - last_progress > PATIENCE_SECONDS:
                raise SystemExit(f"{name}: stopped after {len(run.hits())} of {jobs} jobs")
        run.kill_worker()
        times = [at for _, at in run.hits()]
    return (len(times) - 1) / (max(times) - min(times))


def count_lost(name: str, parent: Path) -> tuple[int, int]:
    """Run jobs while the worker is killed every two seconds.

    Args:
        name: The name of the system.
        parent: The folder for the data of all runs.

    Returns:
        The number of jobs that never ran, and the number of runs beyond one for each job.
    """
    variables = {
        "PAUSE": str(KILLED_PAUSE),
        "CONCURRENCY": str(KILLED_CONCURRENCY),
        "TASK_CONCURRENCY": str(KILLED_CONCURRENCY),
        "IDLE": str(KILLED_IDLE),
    }
    with start_run(name, parent, **variables) as run:
        run.enqueue(KILLED_JOBS)
        run.start_worker()
        done = 0
        last_progress = time.monotonic()
        is_killing = True
        while done < KILLED_JOBS and time.monotonic() - last_progress < PATIENCE_SECONDS:
            time.sleep(KILL_SECONDS)
            numbers = {number for number, _ in run.hits()}
            if len(numbers) != done:
                done = len(numbers)
                last_progress = time.monotonic()
            # A worker that takes long to start makes no progress between two kills.
            if time.monotonic() - last_progress >= STARTUP_SECONDS:
                is_killing = False
            if is_killing and done < KILLED_JOBS:
                run.kill_worker()
                run.start_worker()
        run.kill_worker()
        return KILLED_JOBS - done, len(run.hits()) - done


def measure(names: list[str], jobs: int, runs: int, folder: Path) -> None:
    """Measure the systems by turns, and print the figures.

    Args:
        names: The names of the systems.
        jobs: The number of jobs in each run.
        runs: The number of runs of each system.
        folder: The folder for the data of all runs.
    """
    rates: dict[str, list[float]] = {name: [] for name in names}
    for number in range(runs):
        for name in names:
            rate = measure_throughput(name, jobs, folder)
            rates[name].append(rate)
            print(f"run {number + 1}: {name} {rate:.0f}/s", flush=True)
    print(f"\n{jobs} jobs, {runs} runs")
    print(f"lost: of {KILLED_JOBS} jobs, with a SIGKILL every {KILL_SECONDS:.0f} s")
    peers = [median(rates[name]) for name in names if name != "groundwork"]
    fastest = max(peers, default=None)
    for name in names:
        lost, run_twice = count_lost(name, folder)
        rate = median(rates[name])
        ratio = f"{rate / fastest:5.2f}x" if fastest else ""
        figures = f"{rate:7.0f}/s {ratio}  lost {lost:4}  run twice {run_twice:4}"
        print(f"{name:<11} {figures}", flush=True)


def main() -> None:
    jobs = int(sys.argv[1]) if len(sys.argv) > 1 else JOBS
    runs = int(sys.argv[2]) if len(sys.argv) > 2 else RUNS
    names = sys.argv[3:] or list(SYSTEMS)
    os.environ["SECRET_KEY"] = secrets.token_hex(32)
    with tempfile.TemporaryDirectory() as folder, run_servers(Path(folder), MONGODB):
        measure(names, jobs, runs, Path(folder))


if __name__ == "__main__":
    main()

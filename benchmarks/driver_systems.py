"""Runs queue systems and counts their jobs. `rendering.py` copies this file into the service."""

import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

from driver_hits import read_hits
from driver_servers import VALKEY_WITHOUT_PERSISTENCE, Restart, run_rabbitmq, run_servers

from core.dev.servers import VALKEY, Server

CONCURRENCY = "50"
RESULT_SECONDS = "300"
"""How long results are kept."""

KILL_SECONDS = 2.0
KILLED_JOBS = 2000
KILLED_PAUSE = 0.02
KILLED_CONCURRENCY = 8
KILLED_IDLE = 5
STARTUP_SECONDS = 10.0
PATIENCE_SECONDS = 60.0
"""If no job ran for so long, the rest counts as lost."""

ENQUEUE = """
import asyncio, sys
from app.main import service
from core.config import get_settings
from core.entry import open_service

async def main():
    async with open_service(service, get_settings()):
        job = service.worker.tasks["job"]
        await job.enqueue_many([[number] for number in range(int(sys.argv[1]))])

asyncio.run(main())
"""


@dataclass(frozen=True)
class System:
    """How to enqueue jobs and run a worker.

    Attributes:
        enqueue: The arguments of the command that enqueues. The number of jobs follows them.
        work: The arguments of the command that runs a worker. If no argument has the number of
            processes, the command runs once for each process.
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
    work=["saq", "--quiet", "--workers", "{processes}", "saq_app.settings"],
    packages=["saq[redis]==0.26.4", "typing-extensions"],  # SAQ imports it without requiring it
)
TASKIQ = System(
    enqueue=["python", "taskiq_app.py"],
    work=[
        *("taskiq", "worker", "--workers", "{processes}", "--max-async-tasks", "{concurrency}"),
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
        *("celery", "-A", "celery_app", "worker", "-P", "prefork", "-c", "{children}"),
        *("--without-gossip", "--without-mingle"),
    ],
    packages=["celery[redis]==5.7.0"],
)
DRAMATIQ = System(
    enqueue=["python", "dramatiq_app.py"],
    work=["dramatiq", "dramatiq_app", "-p", "{processes}", "-t", "8"],
    packages=["dramatiq[redis]==2.2.1"],
)
STREAQ = System(
    enqueue=["python", "streaq_app.py"],
    work=["python", "streaq_app.py", "work"],
    packages=["streaq==7.2.0"],
)
SYSTEMS = {
    "groundwork": System(
        enqueue=["-c", ENQUEUE], work=["-m", "core", "worker", "--processes", "{processes}"]
    ),
    "streaq": STREAQ,
    "saq": SAQ,
    "taskiq": TASKIQ,
    "arq": ARQ,
    "celery": CELERY,
    "dramatiq": DRAMATIQ,
}


@dataclass(frozen=True)
class Setup:
    """A system and how it runs.

    Attributes:
        label: The system's name, then any of `+results`, `+aof`, `+rabbitmq` and a number of
            processes.
    """

    label: str

    @property
    def name(self) -> str:
        return self.label.partition("+")[0]

    @property
    def options(self) -> set[str]:
        return set(self.label.split("+")[1:])

    @property
    def system(self) -> System:
        return SYSTEMS[self.name]

    @property
    def processes(self) -> int:
        (number,) = [int(each) for each in self.options if each.isdigit()] or [1]
        return number

    @property
    def server(self) -> Server:
        """The queue's server. Valkey's default for its append-only file is `everysec`."""
        return VALKEY if "aof" in self.options else VALKEY_WITHOUT_PERSISTENCE

    def is_peer_of(self, other: "Setup") -> bool:
        """Whether this is another system on the same server with as many processes."""
        return (
            self.name != other.name
            and self.server == other.server
            and self.processes == other.processes
        )

    @contextmanager
    def run_server(self, folder: Path) -> Iterator[Restart]:
        """Run the queue's server until the block ends, and yield a function that restarts it."""
        if "rabbitmq" in self.options:
            with run_rabbitmq(folder) as restart:
                yield restart
        else:
            with run_servers(folder, self.server) as restart:
                yield restart


class Run:
    """One run of a system.

    Args:
        setup: The system and how it runs.
        folder: The folder for the file of hits and the output of the system.
        variables: Additional variables of the environment.
        restart_server: Restarts the queue's server.
    """

    def __init__(
        self,
        setup: Setup,
        folder: Path,
        variables: dict[str, str],
        restart_server: Restart,
    ) -> None:
        self.restart_server = restart_server
        self._setup = setup
        self._system = setup.system
        self._hits = folder / "hits"
        self._log = (folder / "output.log").open("wb")
        self._environment = {
            **os.environ,
            "LOG_FORMAT": "json",
            "TASK_RECORD_TTL": RESULT_SECONDS,
            "MONGODB_DATABASE": folder.name,
            "PYTHONPATH": ".",
            "UV_PYTHON_DOWNLOADS": "never",
            "HITS": str(self._hits),
            "CONCURRENCY": CONCURRENCY,
            "PROCESSES": str(setup.processes),
            "RESULT_SECONDS": RESULT_SECONDS if "results" in setup.options else "0",
            **variables,
        }
        self._workers: list[subprocess.Popen[bytes]] = []

    def enqueue(self, jobs: int) -> None:
        command = [*self._system.command(self._system.enqueue), str(jobs)]
        subprocess.run(command, env=self._environment, check=True, stdout=self._log)

    def start_workers(self) -> None:
        processes = self._setup.processes
        values = {
            "concurrency": self._environment["CONCURRENCY"],
            "processes": processes,
            "children": max(2, processes),  # Celery's own process runs no jobs
        }
        work = self._system.work
        copies = 1 if {"{processes}", "{children}"} & set(work) else processes
        command = self._system.command([each.format(**values) for each in work])
        for _ in range(copies):
            worker = subprocess.Popen(
                command,
                env=self._environment,
                stdout=self._log,
                stderr=self._log,
                start_new_session=True,
            )
            self._workers.append(worker)

    def kill_workers(self) -> None:
        """Kill all processes of the workers, also those in separate process groups."""
        pids = [pid for worker in self._workers for pid in find_processes(worker.pid)]
        for pid in pids:
            with suppress(ProcessLookupError):  # the process has ended
                os.killpg(os.getpgid(pid), signal.SIGKILL)
        for worker in self._workers:
            worker.wait()
        self._workers.clear()

    def count_hits(self) -> int:
        """Return the number of runs of jobs. This takes little time from the workers."""
        return self._hits.read_bytes().count(b"\n") if self._hits.exists() else 0

    def hits(self) -> list[tuple[int, float]]:
        """Return the number of each job that ran, and the time."""
        return read_hits(self._hits)


def find_processes(pid: int) -> list[int]:
    """Return a process and all processes below it."""
    children = []
    with suppress(FileNotFoundError, ProcessLookupError):  # the process has ended
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return [pid, *(found for child in children for found in find_processes(int(child)))]


@contextmanager
def start_run(setup: Setup, parent: Path, **variables: str) -> Iterator[Run]:
    """Start a run with an empty queue server, and end the server and the worker with the block.

    Args:
        setup: The system and how it runs.
        parent: The folder for the data of all runs.
        **variables: Additional variables of the environment.
    """
    folder = Path(tempfile.mkdtemp(dir=parent, prefix=setup.name))
    with setup.run_server(folder) as restart:
        run = Run(setup, folder, variables, restart)
        try:
            yield run
        finally:
            run.kill_workers()


def measure_throughput(setup: Setup, jobs: int, parent: Path) -> float:
    """Return the jobs a second, from the first job to the last.

    Args:
        setup: The system and how it runs.
        jobs: The number of jobs.
        parent: The folder for the data of all runs.

    Raises:
        SystemExit: The worker stopped running jobs.
    """
    with start_run(setup, parent) as run:
        run.enqueue(jobs)
        run.start_workers()
        done = 0
        last_progress = time.monotonic()
        while done < jobs:
            time.sleep(0.2)
            if run.count_hits() != done:
                done = run.count_hits()
                last_progress = time.monotonic()
            if time.monotonic() - last_progress > PATIENCE_SECONDS:
                raise SystemExit(f"{setup.label}: stopped after {done} of {jobs} jobs")
        run.kill_workers()
        times = [at for _, at in run.hits()]
    return (len(times) - 1) / (max(times) - min(times))


def count_lost(setup: Setup, parent: Path, has_restart: bool = False) -> tuple[int, int]:
    """Run jobs while the worker is killed every two seconds.

    Args:
        setup: The system and how it runs.
        parent: The folder for the data of all runs.
        has_restart: Whether to restart the queue's server when half of the jobs have run.

    Returns:
        The number of jobs that never ran, and the number of runs beyond one for each job.
    """
    variables = {
        "PAUSE": str(KILLED_PAUSE),
        "CONCURRENCY": str(KILLED_CONCURRENCY),
        "TASK_CONCURRENCY": str(KILLED_CONCURRENCY),
        "IDLE": str(KILLED_IDLE),
    }
    with start_run(setup, parent, **variables) as run:
        run.enqueue(KILLED_JOBS)
        run.start_workers()
        done = 0
        last_progress = time.monotonic()
        is_killing = True
        while done < KILLED_JOBS and time.monotonic() - last_progress < PATIENCE_SECONDS:
            time.sleep(KILL_SECONDS)
            numbers = {number for number, _ in run.hits()}
            if len(numbers) != done:
                done = len(numbers)
                last_progress = time.monotonic()
            if has_restart and done >= KILLED_JOBS / 2:
                run.restart_server()
                has_restart = False
            # A worker that takes long to start makes no progress between two kills.
            if time.monotonic() - last_progress >= STARTUP_SECONDS:
                is_killing = False
            if is_killing and done < KILLED_JOBS:
                run.kill_workers()
                run.start_workers()
        run.kill_workers()
        return KILLED_JOBS - done, len(run.hits()) - done

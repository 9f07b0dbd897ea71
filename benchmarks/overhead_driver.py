"""Run by `overhead.py` inside the service that it renders."""

import os
import secrets
import signal
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, field, replace
from pathlib import Path
from statistics import median

from core.dev.servers import MONGODB, VALKEY, free_port, start_server

KILL_SECONDS = 2.0
KILLED_JOBS, KILLED_PAUSE, KILLED_CONCURRENCY, KILLED_IDLE = 2000, 0.02, 8, 5
PATIENCE_SECONDS = 60.0
"""Without a further job for so long, the others count as lost."""
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
        packages: What it needs; nothing where this service's own environment has it.
        enqueue: A command that gets the number of jobs.
        work: A command.
    """

    enqueue: list[str]
    work: list[str]
    packages: list[str] = field(default_factory=list)

    def command(self, words: list[str]) -> list[str]:
        if not self.packages:
            return [sys.executable, *words]
        options = [option for package in self.packages for option in ("--with", package)]
        python = f"{sys.version_info.major}.{sys.version_info.minor}"
        return [os.environ["UV"], "run", "--quiet", "--no-project", "--python", python, *options, *words]


def peer(name: str, packages: list[str], *work: str) -> System:
    return System(["python", f"{name}_app.py"], list(work), packages)


SYSTEMS = {
    "groundwork": System(["-c", ENQUEUE], ["-m", "core", "worker"]),
    "streaq": System(["bare_app.py"], ["bare_app.py", "work"]),
    "saq": peer("saq", ["saq[redis]==0.26.4"], "saq", "--quiet", "saq_app.settings"),
    "taskiq": peer(
        "taskiq",
        ["taskiq==0.13.0", "taskiq-redis==1.2.4"],
        *("taskiq", "worker", "--workers", "1", "--max-async-tasks", "{concurrency}", "--log-level", "WARNING"),
        "taskiq_app:broker",
    ),
    "arq": peer("arq", ["arq==0.28.0"], "arq", "arq_app.WorkerSettings"),
    "celery": peer(
        "celery",
        ["celery[redis]==5.7.0"],
        *("celery", "-A", "celery_app", "worker", "-P", "prefork", "-c", "2", "--without-gossip", "--without-mingle"),
    ),
    "dramatiq": peer("dramatiq", ["dramatiq[redis]==2.2.1"], "dramatiq", "dramatiq_app", "-p", "1", "-t", "8"),
}


class Machine:
    """The servers, and what a system left in the file of hits."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._port = free_port()
        mongodb = free_port()
        self._mongod = start_server(MONGODB, folder / "mongod", mongodb)
        self.valkey: subprocess.Popen[bytes] | None = None
        self.environment = {
            **os.environ,
            "SECRET_KEY": secrets.token_hex(32),
            "MONGODB_URL": MONGODB.url(mongodb),
            "REDIS_URL": VALKEY.url(self._port),
            "LOG_FORMAT": "json",
            "TASK_RECORD_TTL": "300",
            "PYTHONPATH": ".",
            "UV_PYTHON_DOWNLOADS": "never",
        }
        self.log = (folder / "workers.log").open("ab")

    def fresh(self, name: str, **environment: str) -> tuple[dict[str, str], Path]:
        """An empty queue server, and the environment and the file of hits for one measurement."""
        self.stop_queue()
        folder = Path(tempfile.mkdtemp(dir=self._folder, prefix=name))
        without_persistence = replace(
            VALKEY, command=lambda port, data: [*VALKEY.command(port, data), "--appendonly", "no"]
        )
        self.valkey = start_server(without_persistence, folder / "valkey", self._port)
        hits = folder / "hits"
        return {**self.environment, "HITS": str(hits), **environment}, hits

    def stop_queue(self) -> None:
        if self.valkey:
            self.valkey.kill()
            self.valkey.wait()

    def close(self) -> None:
        self.stop_queue()
        self._mongod.kill()
        self._mongod.wait()


def start_worker(system: System, environment: dict[str, str], machine: Machine) -> "subprocess.Popen[bytes]":
    concurrency = environment.get("CONCURRENCY", "50")
    command = system.command([word.replace("{concurrency}", concurrency) for word in system.work])
    return subprocess.Popen(command, env=environment, stdout=machine.log, stderr=machine.log, start_new_session=True)


def kill(worker: "subprocess.Popen[bytes]") -> None:
    os.killpg(worker.pid, signal.SIGKILL)
    worker.wait()


def read(hits: Path) -> list[tuple[int, float]]:
    lines = hits.read_text().splitlines() if hits.exists() else []
    return [(int(number), float(at)) for number, at in (line.split() for line in lines)]


def throughput(system: System, name: str, jobs: int, machine: Machine) -> float:
    """Jobs a second, from the first to the last."""
    environment, hits = machine.fresh(name)
    subprocess.run([*system.command(system.enqueue), str(jobs)], env=environment, check=True, stdout=machine.log)
    worker = start_worker(system, environment, machine)
    try:
        seen, since = 0, time.monotonic()
        while seen < jobs:
            time.sleep(0.2)
            if (size := hits.stat().st_size if hits.exists() else 0) != seen:
                seen, since = size, time.monotonic()
                if len(read(hits)) >= jobs:
                    break
            if time.monotonic() - since > PATIENCE_SECONDS:
                raise SystemExit(f"{name}: stopped after {len(read(hits))} of {jobs} jobs")
    finally:
        kill(worker)
    times = [at for _, at in read(hits)]
    return (len(times) - 1) / (max(times) - min(times))


def lost(system: System, name: str, machine: Machine) -> tuple[int, int]:
    """Jobs that never ran while the worker was killed again and again, and runs more than jobs."""
    environment, hits = machine.fresh(
        name,
        PAUSE=str(KILLED_PAUSE),
        CONCURRENCY=str(KILLED_CONCURRENCY),
        TASK_CONCURRENCY=str(KILLED_CONCURRENCY),
        IDLE=str(KILLED_IDLE),
    )
    subprocess.run([*system.command(system.enqueue), str(KILLED_JOBS)], env=environment, check=True, stdout=machine.log)
    done, since = 0, time.monotonic()
    kills = True
    worker = start_worker(system, environment, machine)
    try:
        while done < KILLED_JOBS and time.monotonic() - since < PATIENCE_SECONDS:
            time.sleep(KILL_SECONDS)
            found = len({number for number, _ in read(hits)})
            if found != done:
                done, since = found, time.monotonic()
            # A system whose worker takes long to start makes little progress between two kills: then it is let run.
            kills = kills and time.monotonic() - since < 10
            if kills and done < KILLED_JOBS:
                kill(worker)
                worker = start_worker(system, environment, machine)
    finally:
        kill(worker)
    return KILLED_JOBS - done, len(read(hits)) - done


def main() -> None:
    jobs = int(sys.argv[1]) if len(sys.argv) > 1 else 20_000
    runs = int(sys.argv[2]) if len(sys.argv) > 2 else 3
    names = sys.argv[3:] or list(SYSTEMS)
    rates: dict[str, list[float]] = {name: [] for name in names}
    with tempfile.TemporaryDirectory() as folder:
        machine = Machine(Path(folder))
        try:
            for run in range(runs):
                for name in names:
                    rates[name].append(throughput(SYSTEMS[name], name, jobs, machine))
                    print(f"run {run + 1}: {name} {rates[name][-1]:.0f}/s", flush=True)
            print(f"\n{jobs} jobs, {runs} runs; lost of {KILLED_JOBS} under SIGKILL every {KILL_SECONDS:.0f} s")
            for name in names:
                gone, more = lost(SYSTEMS[name], name, machine)
                rate = median(rates[name])
                ratio = f"{rate / median(rates['streaq']):5.2f}x" if "streaq" in rates else ""
                print(f"{name:<11} {rate:7.0f}/s {ratio}  lost {gone:4}  run twice {more:4}", flush=True)
        finally:
            machine.close()


if __name__ == "__main__":
    main()

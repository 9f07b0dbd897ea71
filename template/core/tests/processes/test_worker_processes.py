"""One supervisor keeps several worker processes running."""

import asyncio
import fcntl
import json
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx2
import pytest

from core.config import ROOT, Settings
from core.dev.servers import HOST, free_port
from core.entry import Service, open_service
from core.tasks import Job, Worker
from core.tasks.engines import DEFAULT
from core.testing import empty, eventually
from core.tests.running import WAIT

pytestmark = pytest.mark.skipif(DEFAULT == "local", reason="there is no worker process")

SERVICE = """
import asyncio
import fcntl
import os
import re
from pathlib import Path
from core.entry import Service
from core.tasks import Worker, watchdog
from core.tasks.engines.{engine} import consumer

# Soon after a worker has ended, another one takes its jobs.
consumer.IDLE_SECONDS = 3
consumer.BEAT_SECONDS = 0.5
consumer.RECOVER_SECONDS = 0.3
watchdog.ALARM_SECONDS = 2
marks = Path({marks!r})
if (marks / "broken").exists():
    os._exit(3)
# The lock shows whether this process has ended.
lock = (marks / f"{{os.getpid()}}.lock").open("w")
fcntl.flock(lock, fcntl.LOCK_EX)
worker = Worker()

def note(name: str) -> None:
    with (marks / "runs").open("a") as file:
        file.write(f"{{name}} {{os.getpid()}}\\n")

@worker.task
async def quick(name: str) -> None:
    note(name)

@worker.task
async def held(name: str) -> None:
    note(name)
    while not (marks / "go").exists():
        await asyncio.sleep(0.1)

@worker.task
async def greedy(name: str) -> None:
    note(name)
    re.match("(a+)+$", 50 * "a" + "b")  # holds the GIL for days

service = Service([], [], worker)
"""


@dataclass
class Workers:
    """A running supervisor, its service's tasks, and what its processes have left behind."""

    process: "subprocess.Popen[bytes]"
    port: int
    folder: Path
    tasks: Worker

    async def enqueue(self, task: str, *names: str) -> list[Job[Any]]:
        return await self.tasks.tasks[task].enqueue_many([[name] for name in names])

    async def answer(self, path: str) -> tuple[int, str]:
        """Return the status and the body of an answer; 0 if nothing answers."""
        async with httpx2.AsyncClient() as client:
            try:
                response = await client.get(f"http://{HOST}:{self.port}{path}")
            except httpx2.TransportError:
                return 0, ""
        return response.status_code, response.text

    async def is_ready(self) -> bool:
        return (await self.answer("/health/ready"))[0] == 200

    async def wait_for_metric(self, line: str) -> None:
        async def is_shown() -> bool:
            return line in (await self.answer("/metrics"))[1].splitlines()

        await eventually(is_shown, WAIT)

    def runs(self) -> list[tuple[str, int]]:
        """Return the names of the jobs that have begun, and their processes."""
        path = self.folder / "runs"
        lines = path.read_text().splitlines() if path.exists() else []
        return [(name, int(pid)) for name, pid in map(str.split, lines)]

    def running(self) -> set[int]:
        """Return the worker processes that have not ended."""
        return {int(path.stem) for path in self.folder.glob("*.lock") if _is_locked(path)}

    def logged(self, event: str) -> list[dict[str, Any]]:
        lines = (self.folder / "log").read_text().splitlines(keepends=True)
        entries = [json.loads(line) for line in lines if line.endswith("}\n")]
        return [entry for entry in entries if entry["event"] == event]

    async def wait_for_end(self) -> int:
        return await asyncio.to_thread(self.process.wait, WAIT)


def _is_locked(path: Path) -> bool:
    with path.open("r+") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
        return False


@asynccontextmanager
async def running_workers(
    settings: Settings,
    folder: Path,
    *options: str,
    **variables: str,
) -> AsyncIterator[Workers]:
    """Run `python -m core worker` until it is ready."""
    (folder / "held_service.py").write_text(SERVICE.format(engine=DEFAULT, marks=str(folder)))
    port = free_port()
    environment = {
        **os.environ,
        "SERVICE": "held_service:service",
        "PYTHONPATH": f"{folder}:{ROOT}",
        "TASK_ENGINE": DEFAULT,
        "WORKER_PORT": str(port),
        "LOG_FORMAT": "json",
        "TMPDIR": str(folder),
        **variables,
    }
    worker = Worker()

    @worker.task
    async def quick(name: str) -> None: ...

    @worker.task
    async def held(name: str) -> None: ...

    @worker.task
    async def greedy(name: str) -> None: ...

    settings = settings.model_copy(update={"task_engine": DEFAULT})
    with (folder / "log").open("w") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "core", "worker", *options],
            cwd=ROOT,
            env=environment,
            stderr=log,
        )
    workers = Workers(process, port, folder, worker)
    try:
        async with open_service(Service([], [], worker), settings):
            await eventually(workers.is_ready, 2 * WAIT)
            yield workers
    finally:
        process.kill()
        process.wait()
        for pid in workers.running():
            os.kill(pid, signal.SIGKILL)
        await empty(settings)


async def is_completed(jobs: list[Job[Any]]) -> bool:
    return all([await job.status() == "completed" for job in jobs])


async def test_a_killed_process_comes_back_and_its_job_completes(settings, tmp_path):
    options = ["--processes", "2", "--concurrency", "1"]
    began = datetime.now(UTC)
    async with running_workers(settings, tmp_path, *options) as workers:
        jobs = await workers.enqueue("held", "first", "second")
        await eventually(lambda: len(workers.runs()) == 2, WAIT)
        both = workers.running()
        assert {pid for _, pid in workers.runs()} == both
        await workers.wait_for_metric("jobs_running 2.0")
        assert (await workers.answer("/health/live"))[0] == 200

        async def are_shown() -> bool:
            shown = await workers.tasks.workers()
            return {each.pid for each in shown if len(each.running) == 1} == both

        await eventually(are_shown, WAIT)

        (tmp_path / "broken").touch()
        victim = min(both)
        os.kill(victim, signal.SIGKILL)
        await eventually(lambda: len(workers.logged("worker process ended")) >= 2, WAIT)
        assert not await workers.is_ready()
        (tmp_path / "broken").unlink()
        (tmp_path / "go").touch()
        killed, crashed = workers.logged("worker process ended")[:2]
        assert (killed["pid"], killed["status"], killed["pause"]) == (victim, "SIGKILL", 1)
        assert (crashed["status"], crashed["pause"]) == (3, 3)
        await eventually(lambda: is_completed(jobs), WAIT)
        await eventually(workers.is_ready, WAIT)
        assert len(workers.running()) == 2
        assert victim not in workers.running()
        await workers.wait_for_metric("jobs_running 0.0")
        await workers.wait_for_metric('jobs_total{ended_as="completed",task="held"} 2.0')

        workers.process.terminate()
        assert await workers.wait_for_end() == 0
        assert workers.running() == set()
        assert len(workers.logged("worker stopped")) == 2
        assert {each.pid for each in await workers.tasks.workers()} <= {victim}
        (period,) = await workers.tasks.statistics.read(began)
        assert period.tasks["held"].completed == 2


async def test_max_jobs_replaces_a_process_and_a_second_signal_kills(settings, tmp_path):
    options = ["--max-jobs", "5"]
    async with running_workers(settings, tmp_path, *options, TASK_GRACE_PERIOD="0.1") as workers:
        held = await workers.enqueue("held", "held")
        quick = await workers.enqueue("quick", *map(str, range(10)))
        await eventually(lambda: is_completed(quick), WAIT)
        (old,) = {pid for _, pid in workers.runs()}
        later: list[Job[Any]] = []

        async def is_replaced() -> bool:
            later.extend(await workers.enqueue("quick", f"later-{len(later)}"))
            return workers.runs()[-1][1] != old

        await eventually(is_replaced, WAIT)
        assert await workers.is_ready()
        await asyncio.sleep(0.5)  # the grace period does not end jobs of a process that retires
        assert old in workers.running()
        (tmp_path / "go").touch()
        await eventually(lambda: workers.logged("worker process has retired"), WAIT)
        await eventually(lambda: is_completed([*held, *quick, *later]), WAIT)
        names = [name for name, _ in workers.runs()]
        assert len(names) == len(set(names)) == 11 + len(later)
        completed = 10.0 + len(later)
        await workers.wait_for_metric(
            f'jobs_total{{ended_as="completed",task="quick"}} {completed}'
        )
        assert workers.logged("worker process ended") == []

        (tmp_path / "go").unlink()
        await workers.enqueue("held", "late")
        await eventually(lambda: workers.runs()[-1][0] == "late", WAIT)
        # The supervisor gets both signals at once.
        for number in (signal.SIGSTOP, signal.SIGTERM, signal.SIGINT, signal.SIGCONT):
            workers.process.send_signal(number)
        assert await workers.wait_for_end() == os.EX_SOFTWARE
        await eventually(lambda: workers.running() == set(), WAIT)


async def test_a_killed_supervisor_leaves_no_process(settings, tmp_path):
    async with running_workers(settings, tmp_path, "--max-jobs", "1000") as workers:
        assert len(workers.running()) == 1
        workers.process.kill()
        await eventually(lambda: workers.running() == set(), WAIT)


async def test_a_killed_supervisor_leaves_no_process_that_holds_the_gil(settings, tmp_path):
    production = {
        "ENVIRONMENT": "production",
        "PUBLIC_URL": "https://example.com",
        "MAIL_FROM": "no-reply@example.com",
        "TASK_STUCK_LIMIT": "5",
    }
    async with running_workers(settings, tmp_path, "--max-jobs", "1000", **production) as workers:
        await workers.enqueue("greedy", "greedy")
        await eventually(workers.runs, WAIT)
        workers.process.kill()
        await eventually(lambda: workers.running() == set(), WAIT)
    log = (tmp_path / "log").read_text()
    assert "Timeout (0:00:07)!" in log
    assert "in greedy" in log


def test_a_service_that_cannot_start_ends_the_supervisor(run):
    done = run("worker", "--processes", "2", SERVICE="core.tests.none:service")
    assert done.returncode == 2
    assert done.stderr.count("error") == 1

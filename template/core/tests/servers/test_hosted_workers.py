"""Real workers of streaq or arq: started by the system's own command, and by `core worker`."""

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from pydantic_core import MultiHostUrl

from core.config import ROOT, Settings
from core.dev.servers import HOST, VALKEY, free_port, start_server
from core.entry import Service, open_service
from core.tasks import Job, Worker
from core.tasks.engines import DEFAULT
from core.testing import empty, eventually

START_SECONDS = 60
STOP_SECONDS = 30

SERVICE = """
import asyncio
from pathlib import Path
from core.entry import Service
from core.tasks import Worker
from core.tasks.broker import engine, store

# Soon after a worker was killed, another one takes its jobs.
store.LEASE_SECONDS = 3
engine.BEAT_SECONDS = 0.5
engine.RECOVER_SECONDS = engine.RESEND_SECONDS = 0.3
folder = Path({folder!r})
worker = Worker()

@worker.task
async def held(name: str) -> str:
    with (folder / "runs").open("a") as file:
        file.write(name + "\\n")
    while not (folder / "go").exists():
        await asyncio.sleep(0.05)
    return name

{impatient}
service = Service([], [], worker)
"""
COMMANDS = {
    "streaq": ["-m", "streaq", "run", "core.tasks.engines.streaq:worker"],
    "arq": ["-m", "arq", "core.tasks.engines.arq.WorkerSettings"],
}
IMPATIENT = {
    "streaq": """
from core.tasks.engines.streaq import working
working.IDLE_SECONDS = 1
""",
    "arq": """
from core.tasks.engines.arq import working
working.LET_GO_SECONDS = 0.5
working.TIMEOUT_SECONDS = 1
""",
}
OWN = COMMANDS[DEFAULT]
OURS = ["-m", "core", "worker"]


class Valkey:
    """A Valkey server of one test. It keeps no data when it stops."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._port = free_port()
        self._starts = 0
        self.url = f"redis://{HOST}:{self._port}/0"

    def start(self) -> None:
        self._starts += 1
        self._process = start_server(VALKEY, self._folder / f"valkey-{self._starts}", self._port)

    def stop(self) -> None:
        self._process.kill()
        self._process.wait()


@pytest.fixture
def valkey(tmp_path: Path) -> Iterator[Valkey]:
    server = Valkey(tmp_path)
    server.start()
    yield server
    server.stop()


class Workers:
    """Worker processes, and the task whose jobs they run."""

    def __init__(self, folder: Path, settings: Settings) -> None:
        self._folder = folder
        self._processes: list[subprocess.Popen[bytes]] = []
        self._environment = {
            **os.environ,
            "LOG_FORMAT": "json",
            "PYTHONPATH": f"{folder}:{ROOT}",
            "REDIS_URL": str(settings.redis_url),
            "SERVICE": "held_service:service",
            "TASK_ENGINE": DEFAULT,
        }
        self.write_service()
        self.worker = Worker()

        @self.worker.task
        async def held(name: str) -> str:
            return name

        self.held = held

    def write_service(self, impatient: str = "") -> None:
        text = SERVICE.format(folder=str(self._folder), impatient=impatient)
        (self._folder / "held_service.py").write_text(text)

    async def start(self, command: list[str], grace_period: int = 1) -> "subprocess.Popen[bytes]":
        """Start a process, and wait until it takes jobs."""
        log = self._folder / f"worker-{len(self._processes)}.log"
        with log.open("wb") as file:
            process = subprocess.Popen(
                [sys.executable, *command],
                cwd=ROOT,
                env={**self._environment, "TASK_GRACE_PERIOD": str(grace_period)},
                stdout=file,
                stderr=file,
            )
        self._processes.append(process)

        def is_ready() -> bool:
            assert process.poll() is None, log.read_text()
            return "worker started" in log.read_text()

        await eventually(is_ready, START_SECONDS)
        return process

    def runs(self) -> list[str]:
        """Return the names of the jobs that have begun."""
        path = self._folder / "runs"
        return path.read_text().split() if path.exists() else []

    def let_go(self) -> None:
        (self._folder / "go").touch()

    def kill_all(self) -> None:
        for process in self._processes:
            process.kill()
            process.wait()


@pytest.fixture
async def workers(
    settings: Settings, valkey: Valkey, tmp_path: Path, db: object
) -> AsyncIterator[Workers]:
    changes = {"redis_url": MultiHostUrl(valkey.url), "task_engine": DEFAULT}
    settings = settings.model_copy(update=changes)
    workers = Workers(tmp_path, settings)
    try:
        async with open_service(Service([], [], workers.worker), settings):
            yield workers
    finally:
        workers.kill_all()
        await empty(settings)


def is_completed(*jobs: Job[Any]) -> Callable[[], Awaitable[bool]]:
    async def check() -> bool:
        return {await job.status() for job in jobs} == {"completed"}

    return check


async def stop(process: "subprocess.Popen[bytes]") -> int:
    process.send_signal(signal.SIGTERM)
    return await asyncio.to_thread(process.wait, STOP_SECONDS)


@pytest.mark.parametrize("command", [OWN, OURS], ids=["own", "ours"])
async def test_a_worker_that_stops_lets_its_job_end(workers: Workers, command):
    process = await workers.start(command, grace_period=20)
    job = await workers.held.enqueue("first")
    await eventually(lambda: workers.runs() == ["first"], START_SECONDS)
    stopping = asyncio.create_task(stop(process))
    await asyncio.sleep(1)
    assert not stopping.done()
    workers.let_go()
    assert await stopping == 0
    assert await job.result(START_SECONDS) == "first"
    assert workers.runs() == ["first"]


@pytest.mark.parametrize("command", [OWN, OURS], ids=["own", "ours"])
async def test_a_worker_that_stops_puts_a_long_job_back(workers: Workers, command):
    process = await workers.start(command)
    job = await workers.held.enqueue("first")
    await eventually(lambda: workers.runs() == ["first"], START_SECONDS)
    assert await stop(process) == 0
    assert await job.status() == "pending"
    workers.let_go()
    await workers.start(command)
    assert await job.result(START_SECONDS) == "first"


@pytest.mark.parametrize("command", [OWN, OURS], ids=["own", "ours"])
async def test_the_job_of_a_killed_worker_runs_again(workers: Workers, command):
    process = await workers.start(command)
    job = await workers.held.enqueue("first")
    await eventually(lambda: workers.runs() == ["first"], START_SECONDS)
    process.kill()
    process.wait()
    workers.let_go()
    await workers.start(command)
    assert await job.result(START_SECONDS) == "first"
    assert workers.runs() == ["first", "first"]


async def test_a_server_that_loses_its_data_loses_no_job(workers: Workers, valkey: Valkey):
    jobs = [await workers.held.enqueue(str(number)) for number in range(20)]
    valkey.stop()
    valkey.start()
    workers.let_go()
    await workers.start(OWN)
    await eventually(is_completed(*jobs), START_SECONDS)


async def test_a_worker_outlives_a_restart_of_the_server(workers: Workers, valkey: Valkey):
    await workers.start(OURS)
    running = await workers.held.enqueue("running")
    await eventually(lambda: workers.runs() == ["running"], START_SECONDS)
    valkey.stop()
    await asyncio.sleep(2)
    during = await workers.held.enqueue("during")
    valkey.start()
    # The running job does not keep the worker from taking others.
    await eventually(lambda: workers.runs() == ["running", "during"], START_SECONDS)
    workers.let_go()
    await eventually(is_completed(running, during), START_SECONDS)
    assert workers.runs() == ["running", "during"]


async def test_a_job_that_outlives_all_timeouts_runs_once(workers: Workers):
    workers.write_service(IMPATIENT[DEFAULT])
    await workers.start(OWN)
    await workers.start(OURS)
    job = await workers.held.enqueue("first")
    await eventually(lambda: workers.runs() == ["first"], START_SECONDS)
    await asyncio.sleep(5)  # the timeouts are one second
    workers.let_go()
    assert await job.result(START_SECONDS) == "first"
    assert workers.runs() == ["first"]


def test_the_own_command_explains_a_wrong_setting(settings: Settings):
    command = [sys.executable, *OWN]
    environment = {**os.environ, "TASK_ENGINE": "local"}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
    assert done.returncode == 1
    problem = f"TASK_ENGINE is local, so there is no worker of {DEFAULT} to start"
    assert done.stderr == f"settings: {problem}\n"


async def test_the_log_of_the_own_command_has_one_format(workers: Workers, tmp_path: Path):
    await workers.start(OWN)
    workers.let_go()
    job = await workers.held.enqueue("first")
    await eventually(is_completed(job), START_SECONDS)
    lines = (tmp_path / "worker-0.log").read_text().splitlines()
    started = next(number for number, line in enumerate(lines) if "worker started" in line)
    assert all(line.startswith("{") for line in lines[started:])

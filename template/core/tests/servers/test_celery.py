"""Real workers of Celery, on Valkey and on RabbitMQ."""

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from pydantic_core import MultiHostUrl
from redis import Redis

from core.config import ROOT, Settings
from core.dev.servers import HOST, VALKEY, free_port, start_server
from core.entry import Service, open_service
from core.tasks import Job, QueueUnavailable, Worker
from core.tasks.broker.broker import Ticket
from core.tasks.engines.celery.address import find_broker
from core.tasks.engines.celery.application import make_app
from core.tasks.engines.celery.channel import TicketChannel
from core.tasks.errors import QueueRefuses
from core.testing import empty, eventually
from core.tests.rabbitmq import RabbitMQ, rabbitmq_server

START_SECONDS = 60
APP = ["-A", "core.tasks.engines.celery"]

SERVICE = """
import asyncio
import os
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
async def held(name: str) -> None:
    with (folder / "runs").open("a") as file:
        file.write(f"{{name}}\\n")
    while not (folder / "go").exists():
        await asyncio.sleep(0.1)

service = Service([], [], worker)
"""


class Valkey:
    """A Valkey server that a test starts and stops. Its data stay."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder / "valkey"
        self._port = free_port()
        self.url = f"redis://{HOST}:{self._port}/0"

    def start(self) -> None:
        self._process = start_server(VALKEY, self._folder, self._port)

    def stop(self) -> None:
        self._process.kill()
        self._process.wait()


@pytest.fixture
def valkey(tmp_path: Path) -> Iterator[Valkey]:
    server = Valkey(tmp_path)
    server.start()
    yield server
    server.stop()


@pytest.fixture
def rabbitmq(tmp_path: Path) -> Iterator[RabbitMQ]:
    with rabbitmq_server(tmp_path) as server:
        yield server


@pytest.fixture(params=["valkey", "rabbitmq"])
def broker(request: pytest.FixtureRequest) -> Valkey | RabbitMQ:
    """A broker of this test."""
    server: Valkey | RabbitMQ = request.getfixturevalue(request.param)
    return server


@pytest.fixture
def pool(broker: Valkey | RabbitMQ) -> str:
    """A pool of Celery: another one with each broker, because each test takes ten seconds."""
    # Celery takes the name `prefork` for its default, and uses our setting instead.
    return "processes" if isinstance(broker, RabbitMQ) else "threads"


class Workers:
    """Processes of `celery worker`, and the task whose jobs they run."""

    def __init__(self, folder: Path, settings: Settings, url: str) -> None:
        (folder / "held_service.py").write_text(SERVICE.format(folder=str(folder)))
        changes = {"broker_url": MultiHostUrl(url), "task_engine": "celery"}
        self.settings = settings.model_copy(update=changes)
        self._folder = folder
        self._processes: list[subprocess.Popen[bytes]] = []
        self._environment = {
            **os.environ,
            "BROKER_URL": url,
            "LOG_FORMAT": "json",
            "PYTHONPATH": f"{folder}:{ROOT}",
            "QUEUE_NAME": settings.queue_name,
            "SERVICE": "held_service:service",
            "TASK_ENGINE": "celery",
            "TASK_GRACE_PERIOD": "1",
        }
        self.worker = Worker()

        @self.worker.task
        async def held(name: str) -> None: ...

        self.held = held

    async def start(self, *arguments: str) -> None:
        """Start a process of `celery worker`, and wait until it takes jobs."""
        await self.run(["-m", "celery", *APP, "worker", *arguments])

    async def run(self, arguments: list[str]) -> None:
        """Run Python with arguments that start a worker, and wait until it takes jobs."""
        with self.log.open("ab") as log:
            log.truncate(0)
            process = subprocess.Popen(
                [sys.executable, *arguments],
                cwd=ROOT,
                env=self._environment,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        self._processes.append(process)

        def is_ready() -> bool:
            assert process.poll() is None, self.log.read_text()
            text = self.log.read_text()
            return " ready." in text and "worker started" in text

        await eventually(is_ready, START_SECONDS)

    @property
    def log(self) -> Path:
        return self._folder / "worker.log"

    def command(self, *arguments: str) -> str:
        """Run a command of Celery, and return what it prints."""
        command = [sys.executable, "-m", "celery", *APP, *arguments]
        done = subprocess.run(
            command, cwd=ROOT, env=self._environment, capture_output=True, text=True
        )
        return done.stdout + done.stderr

    def runs(self) -> list[str]:
        """Return the names of the jobs that have begun."""
        path = self._folder / "runs"
        return path.read_text().split() if path.exists() else []

    def let_go(self) -> None:
        (self._folder / "go").touch()

    async def stop(self) -> int:
        """Stop the newest process as a deploy does, and return its status."""
        self._processes[-1].terminate()
        return await asyncio.to_thread(self._processes[-1].wait, 60)

    def kill(self) -> None:
        """Kill the newest process and its children, as the kernel does when memory is short."""
        process = self._processes[-1]
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()

    def kill_all(self) -> None:
        for process in self._processes:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()


@pytest.fixture
async def open_workers(
    settings: Settings, tmp_path: Path, db: object
) -> AsyncIterator[Callable[[Valkey | RabbitMQ], Any]]:
    """Return a function that opens the service of this test on a broker."""

    @asynccontextmanager
    async def open_workers(broker: Valkey | RabbitMQ) -> AsyncIterator[Workers]:
        workers = Workers(tmp_path, settings, broker.url)
        try:
            async with open_service(Service([], [], workers.worker), workers.settings):
                yield workers
        finally:
            workers.kill_all()

    yield open_workers
    await empty(settings)


def is_completed(job: Job[Any]) -> Callable[[], Any]:
    async def check() -> bool:
        return await job.status() == "completed"

    return check


async def test_a_worker_that_stops_puts_its_job_back(broker, pool, open_workers):
    async with open_workers(broker) as workers:
        await workers.start("--pool", pool, "--concurrency", "2")
        assert ("(prefork)" in workers.log.read_text()) == (pool == "processes")
        job = await workers.held.enqueue("first")
        await eventually(lambda: workers.runs() == ["first"])
        assert await workers.stop() == 0
        assert await job.status() == "pending"
        workers.let_go()
        await workers.start("--pool", pool, "--concurrency", "2")
        await eventually(is_completed(job))
        assert workers.runs() == ["first", "first"]


async def test_the_job_of_a_killed_worker_runs_again(broker, pool, open_workers):
    async with open_workers(broker) as workers:
        await workers.start("--pool", pool, "--concurrency", "2")
        job = await workers.held.enqueue("first")
        await eventually(lambda: workers.runs() == ["first"])
        workers.kill()
        await workers.start("--pool", pool, "--concurrency", "2")
        await eventually(lambda: workers.runs() == ["first", "first"])
        workers.let_go()
        await eventually(is_completed(job))
        assert len(workers.runs()) == 2


async def test_a_restart_of_the_broker_loses_nothing(broker, open_workers):
    async with open_workers(broker) as workers:
        await workers.start()
        job = await workers.held.enqueue("running")
        await eventually(lambda: workers.runs() == ["running"])
        await asyncio.to_thread(broker.stop)
        during = await workers.held.enqueue("during")
        workers.let_go()
        await eventually(is_completed(job))
        await asyncio.to_thread(broker.start)
        # Celery's worker tries to connect at intervals of up to 30 s.
        await eventually(is_completed(during), 90)
        assert workers.runs() == ["running", "during"]
        assert await workers.stop() == 0


async def test_a_ticket_that_comes_twice_runs_its_job_once(valkey, open_workers):
    async with open_workers(valkey) as workers:
        await workers.start()
        job = await workers.held.enqueue("first")
        await eventually(lambda: workers.runs() == ["first"])
        channel = TicketChannel(workers.settings, find_broker(workers.settings))
        channel.send([Ticket(job.id, "held", "normal", 2)] * 100)
        await eventually(lambda: channel.count() == 0)
        channel.close()
        assert await job.status() == "running"
        workers.let_go()
        await eventually(is_completed(job))
        assert workers.runs() == ["first"]


async def test_celery_shows_jobs_under_the_names_of_their_tasks(broker, open_workers):
    async with open_workers(broker) as workers:
        await workers.start("--task-events")
        assert "* held" in await asyncio.to_thread(workers.command, "inspect", "registered")
        job = await workers.held.enqueue("shown")
        await eventually(lambda: workers.runs() == ["shown"])
        active = await asyncio.to_thread(workers.command, "inspect", "active")
        assert f"'id': '{job.id}', 'name': 'held'" in active
        event = asyncio.create_task(asyncio.to_thread(next_event, workers.settings))
        await asyncio.sleep(0)
        second = None
        while not event.done():  # events before the receiver's start are lost
            second = await workers.held.enqueue("event")
            await asyncio.wait([event], timeout=1)
        assert second
        assert event.result()["name"] == "held"  # Flower lists these


def next_event(settings: Settings) -> dict[str, Any]:
    """Return the next event of a task that a worker sends."""
    app = make_app(settings, find_broker(settings))
    events: list[dict[str, Any]] = []
    with app.connection_for_read() as connection:

        def receive(event: dict[str, Any]) -> None:
            events.append(event)
            receiver.should_stop = True

        receiver = app.events.Receiver(connection, handlers={"task-received": receive})
        receiver.capture(limit=None, timeout=30, wakeup=True)
    return events[0]


async def test_the_service_starts_the_worker_and_its_log_has_one_format(valkey, open_workers):
    async with open_workers(valkey) as workers:
        workers.let_go()
        await workers.run(["-m", "core", "worker"])
        job = await workers.held.enqueue("first")
        await eventually(is_completed(job))
        assert await workers.stop() == 0
        lines = workers.log.read_text().splitlines()
        assert lines[0].startswith("{")  # also as root, about which Celery warns
        assert '"event":"worker stopped"' in lines[-1]
        assert any('"logger":"celery.apps.worker"' in line for line in lines)


def test_the_command_of_celery_explains_a_wrong_setting(settings: Settings):
    command = [sys.executable, "-m", "celery", *APP, "worker"]
    environment = {**os.environ, "TASK_ENGINE": "local"}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
    assert done.returncode == 1
    problem = "TASK_ENGINE is local, so there is no worker of celery to start"
    assert done.stderr == f"settings: {problem}\n"


async def test_only_quorum_queues_are_made(rabbitmq, open_workers):
    async with open_workers(rabbitmq) as workers:
        await workers.start()
        workers.let_go()
        await eventually(is_completed(await workers.held.enqueue("first")))
        listed = await asyncio.to_thread(rabbitmq.run, "list_queues", "name", "type")
        assert f"{workers.settings.queue_name}\tquorum" in listed
        assert "celery_delayed" not in listed


def test_tickets_that_no_worker_has_are_counted(broker, settings):
    settings.broker_url = MultiHostUrl(broker.url)
    channel = TicketChannel(settings, find_broker(settings))
    assert channel.count() == 0
    channel.send([Ticket(name, "held", name, 1) for name in ("low", "normal", "high")])
    assert channel.count() == 3
    channel.close()


def test_a_broker_that_is_full_says_so(broker, settings):
    settings.broker_url = MultiHostUrl(broker.url)
    channel = TicketChannel(settings, find_broker(settings))
    assert channel.check().server
    if isinstance(broker, RabbitMQ):
        broker.run("set_vm_memory_high_watermark", "absolute", "1MB")
    else:
        Redis.from_url(broker.url).config_set("maxmemory", 1)
    with pytest.raises(QueueRefuses, match=r"BROKER_URL\) is full"):
        channel.check()
    channel.close()


def test_a_broker_that_is_down_is_named_in_one_line(settings):
    settings.broker_url = MultiHostUrl(f"amqp://{HOST}:{free_port()}//")
    with pytest.raises(QueueUnavailable, match=r"the broker at .* \(BROKER_URL\) cannot be used"):
        TicketChannel(settings, find_broker(settings))

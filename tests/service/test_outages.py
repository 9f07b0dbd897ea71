"""The service stays up while the database and the queue go down and come back."""

import asyncio
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx2
import pytest

from core.config import Settings
from core.dev.servers import MONGODB, VALKEY, Server, free_port, start_server  # noqa: TID251
from core.entry import load_service  # noqa: TID251
from core.health_server import serve_health  # noqa: TID251
from core.models import EmailTokenModel, UserModel
from core.tasks import QueueUnavailable, Worker
from core.tasks.engines import DEFAULT  # noqa: TID251
from core.web import create_app

SECONDS = 60
FORM = {"email": "grace@example.com", "password": "a long enough password", "display_name": "Grace"}


class Stoppable:
    """A server that a test stops, and starts again on the same port."""

    def __init__(self, server: Server, folder: Path) -> None:
        self._server, self._folder, self.port = server, folder / server.name, free_port()
        self.url = server.url(self.port)
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        self._process = start_server(self._server, self._folder, self.port)

    def signal(self, number: int) -> None:
        if self._process:
            self._process.send_signal(number)

    def kill(self) -> None:
        if self._process:
            self._process.kill()
            self._process.wait()


@pytest.fixture
def mongodb(tmp_path) -> Iterator[Stoppable]:
    server = Stoppable(MONGODB, tmp_path)
    yield server
    server.kill()


@pytest.fixture
def valkey(tmp_path) -> Iterator[Stoppable]:
    server = Stoppable(VALKEY, tmp_path)
    yield server
    server.kill()


async def eventually(
    check: Callable[[], object], status: int, seconds: float = SECONDS
) -> httpx2.Response:
    """Repeat a request until it answers with this status."""
    deadline = time.monotonic() + seconds
    while (response := await check()).status_code != status:
        assert time.monotonic() < deadline, response.text
        await asyncio.sleep(0.1)
    return response


async def log_in(client: httpx2.AsyncClient, email: str) -> None:
    """Log in, after making an account of the sign-up if the email with its link cannot arrive."""
    sign_ups = await EmailTokenModel.find({"email": email}).sort("-_id").to_list()
    if sign_ups:
        fields = sign_ups[0].model_dump(include={"email", "display_name", "password_hash"})
        await UserModel.find({"email": email}).delete()  # of another test
        await UserModel(id=sign_ups[0].user_id, **fields).insert()
        await EmailTokenModel.find({"email": email}).delete()
    response = await client.post("/login", json={"email": email, "password": FORM["password"]})
    assert response.status_code == 204


async def check_log_in_page(client: httpx2.AsyncClient) -> None:
    """Check that the log-in page answers the outage of the database with a page."""
    response = await client.post("/console/login", data=FORM)
    assert response.status_code == 503
    assert response.headers["content-type"].startswith("text/html")
    assert "The database cannot be reached." in response.text


def client_of(app) -> httpx2.AsyncClient:
    return httpx2.AsyncClient(
        transport=httpx2.ASGITransport(app, raise_app_exceptions=False), base_url="http://test"
    )


async def test_the_service_starts_before_its_database_and_survives_its_loss(
    settings: Settings, mongodb, mailbox
):
    settings = settings.model_copy(update={"mongodb_url": mongodb.url})
    app = create_app(load_service(settings), settings)
    async with app.router.lifespan_context(app), client_of(app) as client:
        response = await client.post("/signup", json=FORM)
        assert (response.status_code, response.json()["unavailable"]) == (503, "database")
        await check_log_in_page(client)
        assert (await client.get("/health/live")).status_code == 200
        ready = await client.get("/health/ready")
        assert (ready.status_code, ready.json()["checks"]) == (
            503,
            {"database": "down", "queue": "ok", "schedules": "ok"},
        )

        mongodb.start()
        await eventually(lambda: client.get("/health/ready"), 200)
        await eventually(lambda: client.post("/signup", json=FORM), 202)

        mongodb.kill()
        assert (await client.post("/signup", json=FORM)).json()["unavailable"] == "database"
        await check_log_in_page(client)

        mongodb.start()
        await eventually(lambda: client.post("/signup", json=FORM), 202)


needs_queue = pytest.mark.skipif(
    DEFAULT == "local", reason="the job queue is off, so there is no queue server"
)


@needs_queue
async def test_a_server_that_hangs_is_as_good_as_gone(settings: Settings, valkey):
    settings = settings.model_copy(update={"task_engine": DEFAULT, "redis_url": valkey.url})
    app = create_app(load_service(settings), settings)
    valkey.start()
    async with app.router.lifespan_context(app), client_of(app) as client:
        valkey.signal(signal.SIGSTOP)
        async with asyncio.timeout(20):
            response = await client.post("/signup", json=FORM)
        await log_in(client, FORM["email"])
        assert response.status_code == 202  # the email is in the outbox
        job = f"/jobs/{response.json()['job_id']}"
        async with asyncio.timeout(20):
            response = await client.get(job)
        assert (response.status_code, response.json()["unavailable"]) == (503, "queue")
        valkey.signal(signal.SIGCONT)
        response = await client.post("/signup", json={**FORM, "email": "ada@example.com"})
        await log_in(client, "ada@example.com")
        await eventually(lambda: client.get(f"/jobs/{response.json()['job_id']}"), 200)
        await eventually(lambda: client.get(job), 404)  # the job belongs to another user


@needs_queue
async def test_a_long_job_does_not_hold_up_the_others_after_an_outage(settings: Settings, valkey):
    settings = settings.model_copy(
        update={"task_engine": DEFAULT, "redis_url": valkey.url, "task_grace_period": 1.0}
    )
    worker = Worker()
    started = asyncio.Event()

    @worker.task
    async def long() -> None:
        started.set()
        await asyncio.sleep(60)

    @worker.task
    async def short() -> str:
        return "done"

    valkey.start()
    async with worker.open(settings):
        stop = asyncio.Event()
        consumer = asyncio.create_task(worker.run(stop))
        await long.enqueue()
        await started.wait()
        valkey.kill()
        valkey.start()
        async with asyncio.timeout(SECONDS / 2):
            while True:
                try:
                    job = await short.enqueue()
                    break
                except QueueUnavailable:
                    await asyncio.sleep(0.1)
            assert await job.result() == "done"
        stop.set()
        async with asyncio.timeout(SECONDS / 2):
            await consumer


@needs_queue
async def test_a_worker_is_ready_while_it_can_take_jobs(settings: Settings, valkey):
    settings = settings.model_copy(update={"task_engine": DEFAULT, "redis_url": valkey.url})
    worker = Worker()
    port = free_port()
    serve_health(worker, "127.0.0.1", port)
    async with (
        worker.open(settings),
        httpx2.AsyncClient(base_url=f"http://127.0.0.1:{port}") as client,
    ):
        stop = asyncio.Event()
        consumer = asyncio.create_task(worker.run(stop))
        for _ in range(2):
            await eventually(lambda: client.get("/health/ready"), 503)
            assert (await client.get("/health/live")).status_code == 200
            valkey.start()
            await eventually(lambda: client.get("/health/ready"), 200)
            valkey.kill()
        stop.set()
        await consumer


async def test_nothing_that_is_down_delays_the_end(settings: Settings):
    """Neither server was ever up. The end must not wait for them."""
    nowhere = free_port()
    settings = settings.model_copy(
        update={
            "mongodb_url": f"mongodb://127.0.0.1:{nowhere}",
            "redis_url": f"redis://127.0.0.1:{nowhere}",
            "task_engine": DEFAULT,
            "task_grace_period": 60.0,
        }
    )
    app = create_app(load_service(settings), settings)
    async with asyncio.timeout(SECONDS / 2):
        async with app.router.lifespan_context(app):
            pass


@needs_queue
async def test_a_server_that_hangs_does_not_hold_up_the_end_of_a_worker(settings: Settings, valkey):
    settings = settings.model_copy(
        update={"task_engine": DEFAULT, "redis_url": valkey.url, "task_grace_period": 1.0}
    )
    worker = Worker()
    started, finish = asyncio.Event(), asyncio.Event()

    @worker.task
    async def short() -> None:
        started.set()
        await finish.wait()

    valkey.start()
    async with worker.open(settings):
        stop = asyncio.Event()
        consumer = asyncio.create_task(worker.run(stop))
        await short.enqueue()
        await started.wait()
        valkey.signal(signal.SIGSTOP)
        stop.set()
        finish.set()
        async with asyncio.timeout(SECONDS):
            await consumer


@needs_queue
async def test_a_signup_while_the_queue_is_down_loses_no_mail(settings: Settings, valkey, mailbox):
    settings = settings.model_copy(update={"task_engine": DEFAULT, "redis_url": valkey.url})
    service = load_service(settings)
    app = create_app(service, settings)
    async with app.router.lifespan_context(app), client_of(app) as client:
        ready = await client.get("/health/ready")
        assert (ready.status_code, ready.json()["checks"]) == (
            503,
            {"database": "ok", "queue": "down", "schedules": "ok"},
        )
        signed_up = await client.post("/signup", json=FORM)
        assert signed_up.status_code == 202

        stop = asyncio.Event()
        consumer = asyncio.create_task(service.worker.run(stop))  # the worker waits too
        valkey.start()
        job = signed_up.json()["job_id"]
        assert (await service.worker.job(job).result(SECONDS))["status"] == "sent"
        await log_in(client, FORM["email"])
        await eventually(lambda: client.get(f"/jobs/{job}"), 200)

        valkey.kill()
        signed_up = await client.post("/signup", json={**FORM, "email": "ada@example.com"})
        assert signed_up.status_code == 202
        valkey.start()
        await eventually(lambda: client.get("/health/ready"), 200)
        assert (await service.worker.job(signed_up.json()["job_id"]).result(SECONDS))[
            "status"
        ] == "sent"
        stop.set()
        await consumer
    assert [mail["To"] for mail in mailbox.messages] == ["grace@example.com", "ada@example.com"]

"""A real web process and a real worker send one tree of spans for a request and all its jobs."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx2
import pytest
from otlp_receiver import Receiver, Span, receiving

from core.config import ROOT, Settings
from core.dev.servers import free_port, is_listening  # noqa: TID251
from core.tasks.engines import DEFAULT  # noqa: TID251
from core.testing import empty, eventually  # noqa: TID251

WAIT = 60
SECRET = "tok-5ecret"
VALUE = "ada@example.com"
"""A value of a document. It is in no span, also not in the error of a duplicate key."""
SERVICE = """
import os
from contextlib import suppress
from pathlib import Path

import httpx2
from fastapi import APIRouter
from pymongo.asynchronous.client_session import AsyncClientSession
from pymongo.errors import DuplicateKeyError

from core.database import with_transaction
from core.entry import Service
from core.models import RunModel
from core.tasks import PermanentError, Sensitive, Worker, current_job

worker = Worker()
router = APIRouter()
echo = os.environ["ECHO"]


@worker.task
async def outer(token: Sensitive[str]) -> None:
    await inner.enqueue()
    await worker.context.http_client.get(f"{echo}/own?token={token}")
    await worker.context.public_client.get(f"{echo}/public/{token}")


@worker.task
async def inner() -> None:
    await RunModel.find_all().to_list()


@worker.task(retry_delay=0.01)
async def flaky(token: Sensitive[str]) -> None:
    if current_job().attempt == 1:
        raise ValueError(f"no such token: {token}")


@worker.task
async def broken() -> None:
    raise PermanentError("never")


@worker.task
async def first() -> int:
    collection = RunModel.get_pymongo_collection().database["people"]
    for number in range(2):
        change = ({"_id": "VALUE", "number": number}, {"$set": {"seen": True}})
        with suppress(DuplicateKeyError):
            await collection.find_one_and_update(*change, upsert=True)
    return 1


@worker.task
async def second(number: int) -> None: ...


@worker.task
async def boxed() -> None: ...


@worker.task(process=True)
def forked(token: Sensitive[str]) -> None:
    httpx2.get(f"{echo}/forked/{token}")


@worker.every(seconds=1, id="tick")
@worker.task
async def ticking() -> None:
    Path("ticked").touch()


@router.post("/orders/{order}")
async def order(order: str) -> list[str]:
    jobs = [await task.enqueue("SECRET") for task in (outer, flaky, forked)]
    jobs.append(await broken.enqueue())
    chain = await (first | second).enqueue()

    async def enqueue_boxed(session: AsyncClientSession) -> None:
        jobs.append(await boxed.enqueue())

    await with_transaction(enqueue_boxed)
    return [job.id for job in (*jobs, *chain.stages)]


@router.get("/statuses")
async def statuses(ids: str) -> list[str]:
    return [await worker.job(job_id).status() for job_id in ids.split()]


@router.post("/replays")
async def replay() -> str | None:
    letters = await worker.dead_letters.list()
    return await worker.dead_letters.replay(letters[0].id) if letters else None


service = Service([], [router], worker)
""".replace("SECRET", SECRET).replace("VALUE", VALUE)


@contextmanager
def process(name: str, folder: Path, **variables: str) -> Iterator["subprocess.Popen[bytes]"]:
    """Run a process of the service for a block, and end it as a process manager does."""
    (folder / "traced.py").write_text(SERVICE)
    environment = {
        **os.environ,
        "PYTHONPATH": f"{folder}:{ROOT}",
        "SERVICE": "traced:service",
        "TASK_ENGINE": DEFAULT,
        "ENVIRONMENT": "development",  # clients for public addresses reach this machine, too
        "LOG_FORMAT": "json",
        "OTEL_SERVICE_NAME": "parcels",
        **variables,
    }
    with (folder / f"{name}.log").open("w") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "core", name], cwd=folder, env=environment, stderr=log
        )
    try:
        yield process
        process.terminate()
        assert process.wait(WAIT) in (0, -signal.SIGTERM), read_log(folder, name)
    finally:
        process.kill()
        process.wait()


def read_log(folder: Path, name: str) -> list[dict[str, Any]]:
    lines = (folder / f"{name}.log").read_text().splitlines(keepends=True)
    return [json.loads(line) for line in lines if line.endswith("\n")]


async def wait_for_jobs(client: httpx2.AsyncClient, ids: list[str]) -> None:
    async def have_ended() -> bool:
        answer = await client.get("/statuses", params={"ids": " ".join(ids)})
        return set(answer.json()) <= {"completed", "failed"}

    await eventually(have_ended, WAIT)


async def use(client: httpx2.AsyncClient) -> None:
    """Enqueue jobs of every kind, and replay the one that failed."""
    answer = await client.post("/orders/7", params={"token": SECRET})
    assert answer.status_code == 200
    await wait_for_jobs(client, answer.json())

    replayed: list[str] = []

    async def is_replayed() -> bool:
        job_id = (await client.post("/replays")).json()
        replayed.extend([job_id] if job_id else [])
        return bool(replayed)

    await eventually(is_replayed, WAIT)
    await wait_for_jobs(client, replayed)


@pytest.fixture
async def traces(settings: Settings, tmp_path: Path) -> Any:
    """The spans of a web process and a worker that have ended."""
    port = free_port()
    with receiving() as receiver:
        variables = {
            "OTEL_EXPORTER_OTLP_ENDPOINT": receiver.url,
            "OTEL_BSP_SCHEDULE_DELAY": "3600000",  # spans arrive at the end of a process
            "ECHO": receiver.url,
            "PORT": str(port),
        }
        with process("web", tmp_path, **variables), process("worker", tmp_path, **variables):
            await eventually(lambda: is_listening(port), WAIT)
            async with httpx2.AsyncClient(base_url=f"http://127.0.0.1:{port}") as client:
                await use(client)
                await client.get("/health/ready")
            await eventually((tmp_path / "ticked").exists, WAIT)
        yield receiver
    await empty(settings)


async def test_the_tree_of_a_request(traces: Receiver, tmp_path: Path) -> None:
    request = traces.one("POST /orders/{order}")
    assert request.parent == ""
    assert request.process["service.name"] == "parcels"
    assert request.process["process.role"] == "web"

    outer = traces.one("job outer")
    inner = traces.one("job inner")
    assert outer.parent == request.id
    assert inner.parent == outer.id
    (query,) = [each for each in traces.children(inner) if "db.system" in each.attributes]
    assert query.name.endswith(".find")
    runs_jobs = "web" if DEFAULT == "local" else "worker"
    assert {each.process["process.role"] for each in (outer, inner, query)} == {runs_jobs}

    for name in ("job flaky", "job forked", "job broken", "job first", "job boxed"):
        assert {each.parent for each in traces.find(name, job__attempt=1)} >= {request.id}, name
    assert traces.one("job second").parent == traces.one("job first").id

    check_links(traces, request)
    check_requests_of_jobs(traces, outer)
    check_noise(traces)
    failed = [each for each in traces.children(traces.one("job first")) if each.status]
    assert [each.name.partition(".")[2] for each in failed] == ["findAndModify"]
    assert SECRET.encode() not in traces.content
    assert VALUE.encode() not in traces.content
    check_log(tmp_path, runs_jobs, request, outer)


def check_links(traces: Receiver, request: Span) -> None:
    """A retry links to the attempt before, and a replay to the run that failed."""
    one = traces.one("job flaky", job__attempt=1)
    two = traces.one("job flaky", job__attempt=2)
    assert (one.links, two.links) == ([], [one.id])
    assert (one.parent, two.parent) == (request.id, request.id)
    assert (one.attributes["job.ended_as"], two.attributes["job.ended_as"]) == (
        "retried",
        "completed",
    )
    (failed,) = [each for each in traces.find("job broken") if not each.links]
    (replayed,) = [each for each in traces.find("job broken") if each.links]
    assert replayed.links == [failed.id]
    assert replayed.parent in {each.id for each in traces.find("POST /replays")}
    assert replayed.trace != failed.trace


def check_requests_of_jobs(traces: Receiver, outer: Span) -> None:
    """Requests are spans. Only the user's own servers learn the trace's id."""
    requests = [each for each in traces.children(outer) if each.name == "GET"]
    public, own = sorted(requests, key=lambda each: "http.url" in each.attributes)
    assert own.attributes["http.url"].endswith("/own")
    assert own.id in traces.headers[f"/own?token={SECRET}"]["traceparent"]
    assert "traceparent" not in traces.headers[f"/public/{SECRET}"]
    assert public.attributes["server.address"] == "127.0.0.1"
    assert public.attributes["http.response.status_code"] == 200
    (forked,) = traces.children(traces.one("job forked"))
    assert forked.name == "GET"
    assert forked.process["process.role"] == "child"


def check_noise(traces: Receiver) -> None:
    """Health checks and the worker's own calls make no spans, and a schedule begins a trace."""
    ticks = traces.find("job ticking", job__schedule="tick")
    assert ticks
    assert {each.parent for each in ticks} == {""}
    roots = {each.name for each in traces.spans if not each.parent}
    assert roots == {
        "POST /orders/{order}",
        "POST /replays",
        "GET /statuses",
        "job ticking",
    }


def check_log(folder: Path, runs_jobs: str, request: Span, outer: Span) -> None:
    """Log lines have the id of the trace."""
    (line,) = [each for each in read_log(folder, "web") if each.get("path") == "/orders/7"]
    assert line["trace_id"] == request.trace
    lines = [each for each in read_log(folder, runs_jobs) if each.get("task") == "outer"]
    assert lines
    assert {each["trace_id"] for each in lines} == {outer.trace} == {request.trace}


@pytest.mark.parametrize("how", ["refuses", "is silent"])
async def test_a_collector_that_takes_nothing(settings: Settings, tmp_path: Path, how: str) -> None:
    """Requests are answered, a line says that spans are lost, and the process ends in time."""
    port = free_port()
    silent = socket.create_server(("127.0.0.1", 0))
    address = free_port() if how == "refuses" else silent.getsockname()[1]
    variables = {
        "OTEL_EXPORTER_OTLP_ENDPOINT": f"http://127.0.0.1:{address}",
        "OTEL_EXPORTER_OTLP_TIMEOUT": "1" if how == "refuses" else "600",
        "OTEL_BSP_SCHEDULE_DELAY": "100",
        "OTEL_BSP_MAX_QUEUE_SIZE": "16",
        "OTEL_BSP_MAX_EXPORT_BATCH_SIZE": "4",
        "ECHO": "http://127.0.0.1:1",
        "PORT": str(port),
        "TASK_ENGINE": "local",
    }
    with silent, process("web", tmp_path, **variables) as web:
        await eventually(lambda: is_listening(port), WAIT)
        async with httpx2.AsyncClient(base_url=f"http://127.0.0.1:{port}") as client:
            for _ in range(50):
                assert (await client.get("/statuses", params={"ids": "x"})).status_code == 200
        if how == "refuses":
            await eventually(lambda: lost_lines(tmp_path), WAIT)
        web.terminate()
        started = time.monotonic()
        web.wait(WAIT)
        assert time.monotonic() - started < 30  # the collector would be given 600 s
    # One line for the outage, and one for the last spans, however many batches failed.
    events = [line["event"] for line in lost_lines(tmp_path)]
    assert 1 <= len(events) == len(set(events)) <= 2
    await empty(settings)


def lost_lines(folder: Path) -> list[dict[str, Any]]:
    return [line for line in read_log(folder, "web") if "spans are lost" in line["event"]]

"""Jobs on the web: `/jobs`, `/metrics` and `/health/backlog`."""

import asyncio
import contextlib
import json
from collections import Counter
from collections.abc import AsyncIterator, Callable
from functools import partial

import pytest
import uvicorn
from httpx2 import Response
from prometheus_client.parser import text_string_to_metric_families

from core.context import TaskContext
from core.dev.servers import HOST, free_port
from core.models import UserModel
from core.services.accounts import register
from core.services.sessions import start_session
from core.tasks import Job, JobFailed, Worker, current_job
from core.testing import PASSWORD, eventually
from core.tests.running import WAIT
from core.web import CurrentUser, jobs
from core.web.auth import COOKIE


async def enqueue_answer(worker: Worker, value: int, owner: str | None) -> Job[int]:
    """Enqueue a job that returns `value`, or fails if it is negative."""

    async def answer(value: int) -> int:
        if value < 0:
            raise ValueError("negative")
        return value

    task = worker.tasks.get("answer") or worker.task(max_retries=0)(answer)
    with TaskContext.use(actor=owner):
        return await task.enqueue(value)


async def test_a_job_is_shown_to_its_owner_only(client, user, app_worker):
    job = await enqueue_answer(app_worker, 7, str(user.id))
    await job.result(WAIT)
    url = f"/jobs/{job.id}"
    assert (await client.get(url)).status_code == 401

    client.cookies.set(COOKIE, await start_session(user))
    response = await client.get(url)
    assert response.json() == {
        "id": job.id,
        "task": "answer",
        "status": "completed",
        "attempt": 1,
        "progress": None,
        "result": 7,
        "error": None,
    }

    stranger = await register("stranger@example.com", PASSWORD, "Stranger")
    client.cookies.set(COOKIE, await start_session(stranger))
    not_theirs, nobodys = await client.get(url), await client.get("/jobs/nothing")
    assert not_theirs.status_code == nobodys.status_code == 404
    assert not_theirs.json() == nobodys.json()


async def test_a_plain_route_enqueues_a_job_of_its_user(app, signed_in, user, app_worker):
    @app_worker.task
    def shout(text: str) -> str:
        return text.upper()

    @app.post("/shout")
    def post_shout(text: str, user: CurrentUser) -> str:
        return shout.enqueue_sync(text).id

    headers = {"X-Request-ID": "shout-1"}
    response = await signed_in.post("/shout?text=hello", headers=headers)
    job = app_worker.job(response.json())
    assert await job.result(WAIT) == "HELLO"
    record = await job.record()
    assert (record.owner, record.correlation_id) == (str(user.id), "shout-1")


async def test_a_failed_job_shows_no_traceback(client, user, app_worker):
    job = await enqueue_answer(app_worker, -1, str(user.id))
    with pytest.raises(JobFailed):
        await job.result(WAIT)
    client.cookies.set(COOKIE, await start_session(user))
    response = await client.get(f"/jobs/{job.id}")
    assert response.json()["status"] == "failed"
    assert response.json()["error"] == {"type": "ValueError", "message": "negative"}
    assert "Traceback" not in response.text


async def test_a_job_is_followed_as_events(client, user, app_worker, monkeypatch):
    monkeypatch.setattr(jobs, "EVENT_SECONDS", 0.01)
    records = app_worker.queue.engine.records
    read, reads = records.read, Counter[str]()

    async def read_and_count(ids):
        found = await read(ids)
        reads.update(ids)
        return found

    monkeypatch.setattr(records, "read", read_and_count)

    def has_been_read(job_id: str, times: int) -> bool:
        return reads[job_id] >= times

    @app_worker.task
    async def step() -> None:
        job_id = current_job().id
        for done in (1, 2):
            await current_job().progress(done, 2, f"step {done}")
            # Twice, since one read may have begun before.
            await eventually(partial(has_been_read, job_id, reads[job_id] + 2), WAIT)

    with TaskContext.use(actor=str(user.id)):
        job = await step.enqueue()
    url = f"/jobs/{job.id}/events"
    assert (await client.get(url)).status_code == 401
    client.cookies.set(COOKIE, await start_session(user))
    assert (await client.get("/jobs/nothing/events")).status_code == 404
    response = await client.get(url)

    assert response.headers["content-type"].startswith("text/event-stream")
    lines = [line for line in response.text.splitlines() if line.startswith("data:")]
    events = [json.loads(line.removeprefix("data: ")) for line in lines]
    messages = [event["progress"]["message"] for event in events if event["progress"]]
    assert messages == ["step 1", "step 2", "step 2"]
    assert [event["status"] for event in events][-2:] == ["running", "completed"]


@pytest.fixture
async def follow(
    signed_in, user, app_worker
) -> AsyncIterator[Callable[[], asyncio.Task[Response]]]:
    """Return a function that opens the event stream of a new job. The jobs never end."""

    @app_worker.task
    async def last() -> None:
        await asyncio.sleep(600)

    opened = []

    async def open_stream() -> Response:
        with TaskContext.use(actor=str(user.id)):
            job = await last.enqueue()
        return await signed_in.get(f"/jobs/{job.id}/events")

    def follow() -> asyncio.Task[Response]:
        opened.append(asyncio.create_task(open_stream()))
        return opened[-1]

    yield follow
    for stream in opened:
        stream.cancel()
    await asyncio.wait(opened)


async def test_event_streams_share_one_read(follow, app_worker, monkeypatch):
    monkeypatch.setattr(jobs, "EVENT_SECONDS", 0.01)
    records = app_worker.queue.engine.records
    read, sizes = records.read, list[int]()

    async def read_and_note(ids):
        sizes.append(len(ids))
        return await read(ids)

    monkeypatch.setattr(records, "read", read_and_note)
    streams = [follow() for _ in range(10)]
    await eventually(lambda: 10 in sizes, WAIT)
    sizes.clear()
    await eventually(lambda: len(sizes) >= 5, WAIT)
    assert set(sizes) == {10}
    streams[0].cancel()
    await eventually(lambda: 9 in sizes, WAIT)
    assert set(sizes) == {10, 9}


@pytest.fixture
async def port(app) -> AsyncIterator[int]:
    """The port of the application in uvicorn."""
    config = uvicorn.Config(
        app,
        host=HOST,
        port=free_port(),
        lifespan="off",
        log_config=None,
        timeout_graceful_shutdown=1,  # a test that fails leaves streams open
    )
    server = uvicorn.Server(config)
    serving = asyncio.create_task(server.serve())
    await eventually(lambda: server.started, WAIT)
    yield config.port
    server.should_exit = True
    await serving


@pytest.mark.parametrize("name", ["max_event_streams", "max_event_streams_per_user"])
async def test_event_streams_are_limited(port, app_worker, user, settings, monkeypatch, name):
    monkeypatch.setattr(settings, name, 2)

    @app_worker.task
    async def last() -> None:
        await asyncio.sleep(600)

    with TaskContext.use(actor=str(user.id)):
        job = await last.enqueue()
    stranger = await register("stranger@example.com", PASSWORD, "Stranger")

    async def open_stream(person: UserModel) -> tuple[asyncio.StreamWriter, bytes]:
        cookie = f"{COOKIE}={await start_session(person)}"
        path = f"/jobs/{job.id}/events"
        reader, writer = await asyncio.open_connection(HOST, port)
        request = f"GET {path} HTTP/1.1\r\nHost: {HOST}\r\nCookie: {cookie}\r\n\r\n"
        writer.write(request.encode())
        _, status, _ = (await reader.readline()).split(maxsplit=2)
        return writer, status

    async def opens() -> bool:
        writer, status = await open_stream(user)
        writer.close()
        return status == b"200"

    streams = [await open_stream(user) for _ in range(2)]
    assert [status for _, status in streams] == [b"200", b"200"]
    assert not await opens()
    # Another user has a separate limit. The limit is checked before the job is searched.
    other, status = await open_stream(stranger)
    assert status == (b"404" if name == "max_event_streams_per_user" else b"429")
    other.close()
    streams[0][0].close()
    await eventually(opens, WAIT)
    streams[1][0].close()


async def test_metrics_count_jobs(client, app_worker):
    for value in (1, 2, -1):
        with contextlib.suppress(JobFailed):
            await (await enqueue_answer(app_worker, value, None)).result(WAIT)
    await eventually(app_worker.dead_letters.count, WAIT)
    text = (await client.get("/metrics")).text
    families = {family.name: family for family in text_string_to_metric_families(text)}
    ended = {
        sample.labels["ended_as"]: sample.value
        for sample in families["jobs"].samples
        if sample.name == "jobs_total" and sample.labels["task"] == "answer"
    }
    assert ended["completed"] >= 2
    assert ended["failed"] >= 1
    assert families["dead_letters"].samples[0].value == 1
    assert families["dead_letters_stashed"].samples[0].value == 0
    states = {sample.labels["state"] for sample in families["queue_jobs"].samples}
    assert states == {"pending", "running", "scheduled"}
    assert families["job_wait_seconds"].samples


async def test_a_backlog_is_reported(client, app_worker, settings, monkeypatch):
    async def backlog() -> tuple[int, dict[str, object]]:
        response = await client.get("/health/backlog")
        return response.status_code, response.json()

    @app_worker.task
    async def wait() -> None:
        await asyncio.sleep(60)

    verdict = "The workers keep up: 0 jobs pending."
    empty = {"status": "ok", "pending": 0, "oldest_seconds": 0.0, "verdict": verdict}
    assert await backlog() == (200, empty)
    monkeypatch.setattr(settings, "task_backlog_limit", 2)
    waiting = await wait.enqueue_many([[]] * (settings.task_concurrency + 2))

    async def is_full() -> bool:
        return (await backlog())[1]["pending"] == 2

    await eventually(is_full, WAIT)
    status, late = await backlog()
    assert status == 503
    assert str(late["verdict"]).startswith(
        "The workers do not keep up: 2 jobs pending, the oldest for "
    )
    assert all(await asyncio.gather(*(job.abort() for job in waiting)))
    assert (await backlog())[0] == 200

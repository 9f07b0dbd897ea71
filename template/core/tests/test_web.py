"""The web process: health, jobs, errors, correlation ids."""

import asyncio
import contextlib
import json

import pytest
from fastapi import BackgroundTasks, FastAPI
from prometheus_client.parser import text_string_to_metric_families

from core.context import TaskContext
from core.services.accounts import register
from core.services.sessions import find_user, start_session
from core.tasks import JobFailed, Worker, current_job
from core.testing import PASSWORD
from core.web.auth import COOKIE


@pytest.fixture
async def worker(app):
    from core.config import get_settings
    from core.entry import load_service

    worker: Worker = load_service(get_settings()).worker

    async def answer(value: int) -> int:
        if value < 0:
            raise ValueError("negative")
        return value

    worker.task(name="test-answer", max_retries=0)(answer)
    yield worker
    del worker.tasks["test-answer"]


async def enqueue(worker: Worker, value: int, owner: str | None):
    with TaskContext.use(actor=owner):
        return await worker.tasks["test-answer"].enqueue(value)


async def test_health(client):
    assert (await client.get("/health/live")).json() == {"status": "ok"}
    response = await client.get("/health/ready")
    assert response.status_code == 200
    assert response.json() == {"status": "ok", "checks": {"database": "ok", "queue": "ok"}}


async def test_a_job_is_shown_to_its_owner_only(client, user, worker):
    job = await enqueue(worker, 7, str(user.id))
    await job.result(10)
    url = f"/jobs/{job.id}"
    assert (await client.get(url)).status_code == 401

    client.cookies.set(COOKIE, await start_session(user))
    response = await client.get(url)
    assert response.json() == {
        "id": job.id, "task": "test-answer", "status": "completed", "attempt": 1,
        "progress": None, "result": 7, "error": None,
    }  # fmt: skip

    stranger = await register("stranger@example.com", PASSWORD, "Stranger")
    client.cookies.set(COOKIE, await start_session(stranger))
    not_theirs, nobodys = await client.get(url), await client.get("/jobs/nothing")
    assert not_theirs.status_code == nobodys.status_code == 404
    assert not_theirs.json() == nobodys.json()


async def test_a_failed_job_shows_no_traceback(client, user, worker):
    job = await enqueue(worker, -1, str(user.id))
    client.cookies.set(COOKIE, await start_session(user))
    while (response := await client.get(f"/jobs/{job.id}")).json()["status"] != "failed":
        pass
    assert response.json()["error"] == {"type": "ValueError", "message": "negative"}
    assert "Traceback" not in response.text


async def test_a_job_is_followed_as_events(client, user, worker):
    async def step() -> None:
        for done in (1, 2):
            await current_job().progress(done, 2, f"step {done}")
            await asyncio.sleep(0.7)

    task = worker.task(name="test-step")(step)
    try:
        with TaskContext.use(actor=str(user.id)):
            job = await task.enqueue()
        url = f"/jobs/{job.id}/events"
        assert (await client.get(url)).status_code == 401
        client.cookies.set(COOKIE, await start_session(user))
        assert (await client.get("/jobs/nothing/events")).status_code == 404
        response = await client.get(url)
    finally:
        del worker.tasks["test-step"]
    assert response.headers["content-type"].startswith("text/event-stream")
    events = [
        json.loads(line.removeprefix("data: "))
        for line in response.text.splitlines()
        if line[:5] == "data:"
    ]
    told = [event["progress"]["message"] for event in events if event["progress"]]
    assert told == ["step 1", "step 2", "step 2"]
    assert [event["status"] for event in events][-2:] == ["running", "completed"]


async def test_metrics_and_backlog(client, user, worker, settings, monkeypatch):
    for value in (1, 2, -1):
        with contextlib.suppress(JobFailed):
            await (await enqueue(worker, value, None)).result(10)
    async with asyncio.timeout(10):
        while not await worker.dead_letters.count():
            await asyncio.sleep(0.02)
    text = (await client.get("/metrics")).text
    families = {family.name: family for family in text_string_to_metric_families(text)}
    ended = {
        sample.labels["ended_as"]: sample.value
        for sample in families["jobs"].samples
        if sample.name == "jobs_total" and sample.labels["task"] == "test-answer"
    }
    assert ended["completed"] >= 2
    assert ended["failed"] >= 1
    assert families["dead_letters"].samples[0].value == 1
    assert {sample.labels["state"] for sample in families["queue_jobs"].samples} == {
        "pending",
        "running",
        "scheduled",
    }
    assert families["job_wait_seconds"].samples

    assert (await client.get("/health/backlog")).json() == {
        "status": "ok",
        "pending": 0,
        "oldest_seconds": 0.0,
    }

    async def wait() -> None:
        await asyncio.sleep(60)

    waiting = worker.task(name="test-wait")(wait)
    try:
        monkeypatch.setattr(settings, "task_backlog_limit", 2)
        running = settings.task_concurrency
        jobs = await waiting.enqueue_many([[]] * (running + 2))
        async with asyncio.timeout(10):
            while (response := await client.get("/health/backlog")).json()["pending"] != 2:
                await asyncio.sleep(0.02)
        assert response.status_code == 503
        assert all(await asyncio.gather(*(job.abort() for job in jobs)))
        assert (await client.get("/health/backlog")).status_code == 200
    finally:
        del worker.tasks["test-wait"]


async def test_fastapis_own_background_tasks_keep_the_correlation_id(app: FastAPI, client):
    seen = []

    async def later() -> None:
        seen.append(TaskContext.get_correlation_id())

    def later_in_a_thread() -> None:
        seen.append(TaskContext.get_correlation_id())

    @app.get("/test-background")
    async def background(tasks: BackgroundTasks) -> None:
        tasks.add_task(later)
        tasks.add_task(later_in_a_thread)

    await client.get("/test-background", headers={"X-Request-ID": "background-1"})
    assert seen == ["background-1"] * 2


async def test_a_session_ends(user, monkeypatch):
    from core.config import get_settings

    monkeypatch.setattr(get_settings(), "session_lifetime", -1)
    assert await find_user(await start_session(user)) is None
    assert await find_user("made up") is None


@pytest.mark.parametrize(
    ("sent", "kept"),
    [("abc-1", True), ("a" * 129, False), ("a b", False), ("a%0a", False), (None, False)],
)
async def test_correlation_ids(client, sent, kept):
    response = await client.get("/health/live", headers={"X-Request-ID": sent} if sent else {})
    (received,) = response.headers.get_list("x-request-id")
    assert (received == sent) is kept
    assert received


async def test_an_error_nobody_expected_tells_its_id_and_nothing_else(app: FastAPI, client):
    @app.get("/test-broken")
    async def broken() -> None:
        raise RuntimeError("secret detail")

    response = await client.get("/test-broken", headers={"X-Request-ID": "broken-1"})
    assert response.status_code == 500
    assert response.json()["correlation_id"] == "broken-1"
    assert response.headers["x-request-id"] == "broken-1"
    assert "secret detail" not in response.text

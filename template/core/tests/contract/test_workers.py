"""Workers: each process that runs jobs shows what it does, and is gone when it has ended."""

import asyncio
import os
import socket
import time
from contextlib import AsyncExitStack
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import urlsplit

import pytest
from pymongo import AsyncMongoClient

from core.config import read_pyproject
from core.dev.servers import HOST
from core.entry import Service, open_service
from core.models import WorkerModel
from core.tasks import Worker, upkeep
from core.tasks.engine import Promise
from core.testing import eventually
from core.tests.queue_servers import Proxy
from core.tests.running import WAIT, consuming, running


@pytest.fixture(autouse=True)
def short_pauses(monkeypatch) -> None:
    monkeypatch.setattr(upkeep, "HEARTBEAT_SECONDS", 0.05)


async def wait_for_worker(worker: Worker) -> WorkerModel:
    """Return the only worker once it has shown itself."""
    (found,) = await eventually(worker.workers, WAIT)
    return found


async def test_a_worker_shows_what_it_is(worker, run, engine_settings):
    async with run():
        found = await wait_for_worker(worker)
        assert found.id == worker.queue.engine.name
        assert (found.host, found.pid) == (socket.gethostname(), os.getpid())
        assert found.version == read_pyproject()["project"]["version"]
        assert found.engine == engine_settings.task_engine
        assert found.concurrency == engine_settings.task_concurrency
        assert found.queue == engine_settings.queue_name
        assert (found.running, found.running_count) == ([], 0)


async def test_a_web_process_whose_jobs_can_be_lost_says_so_once(worker, engine_settings, caplog):
    caplog.set_level("INFO")
    told = "the job queue is off: jobs are lost when this process ends"
    async with open_service(Service([], [], worker), engine_settings):
        assert told not in caplog.text  # a command does not say it
        async with worker.watch():
            promises = worker.queue.engine.promises
            assert caplog.text.count(told) == (Promise.DURABLE not in promises)


async def test_a_worker_shows_its_running_jobs(worker, run, monkeypatch):
    monkeypatch.setattr("core.tasks.heartbeat.MAX_RUNNING", 2)
    may_end = asyncio.Event()

    @worker.task(name="$slow.$one")  # MongoDB must not take the name for an expression
    async def slow() -> None:
        await may_end.wait()

    async with run():
        jobs = await slow.enqueue_many([[], [], []])

        async def find() -> list[WorkerModel]:
            return [each for each in await worker.workers() if each.running_count == 3]

        (found,) = await eventually(find, WAIT)
        assert len(found.running) == 2
        assert {each.job_id for each in found.running} <= {job.id for job in jobs}
        assert {each.task for each in found.running} == {"$slow.$one"}
        assert {(await job.record()).worker for job in jobs} == {found.id}
        first, second = found.running
        assert found.seen_at - timedelta(seconds=WAIT) < first.since <= second.since
        assert second.since <= found.seen_at
        may_end.set()
        for job in jobs:
            assert (await job.wait(WAIT)).worker is None

        async def is_idle() -> bool:
            (found,) = await worker.workers()
            return found.running == [] and found.running_count == 0

        await eventually(is_idle, WAIT)


async def test_an_orderly_stop_ends_the_worker_at_once(worker, engine_settings):
    service = Service([], [], worker)
    url, name = str(engine_settings.mongodb_url), engine_settings.mongodb_database
    async with AsyncMongoClient[dict[str, Any]](url, tz_aware=True) as client:
        stored = client[name]["workers"]
        async with (
            open_service(service, engine_settings),
            worker.watch(),
            consuming(worker),
        ):
            await wait_for_worker(worker)
            (found,) = await worker.workers()
        ended = await stored.find_one({"_id": found.id})
        assert ended
        assert ended["expires_at"] < found.expires_at


async def test_a_process_that_runs_no_jobs_is_no_worker(worker, engine_settings, run):
    other = Worker()
    async with run(), open_service(Service([], [], other), engine_settings):
        (found,) = await eventually(other.workers, WAIT)
        assert found.id == worker.queue.engine.name


async def test_a_worker_that_was_killed_is_gone_after_a_minute(worker, run):
    async with run():
        found = await wait_for_worker(worker)
        assert found.expires_at - found.seen_at == timedelta(minutes=1)
        workers = WorkerModel.get_pymongo_collection()
        # Another process was killed a minute ago.
        dead = found.model_dump(exclude={"id"}) | {"_id": "dead", "expires_at": found.seen_at}
        await workers.insert_one(dead)
        assert [each.id for each in await worker.workers()] == [found.id]
        assert await workers.count_documents({"_id": {"$in": [found.id, "dead"]}}) == 2
        # MongoDB's own thread removes the document later.
        indexes = (await workers.index_information()).values()
        (index,) = [index for index in indexes if "expireAfterSeconds" in index]
        assert (index["key"], index["expireAfterSeconds"]) == ([("expires_at", 1)], 3600)


async def test_the_clock_of_a_worker_may_be_wrong(worker, run, monkeypatch):
    async with run():
        heartbeat = worker._opened.heartbeat
        for days in (-1, 1):
            with monkeypatch.context() as patch:
                now = time.time() + days * 86_400
                patch.setattr("time.time", lambda now=now: now)
                await heartbeat.beat()
                (found,) = await worker.workers()
            hello = await WorkerModel.get_pymongo_collection().database.command("hello")
            now = hello["localTime"].replace(tzinfo=UTC)
            assert now - timedelta(seconds=WAIT) < found.started_at <= found.seen_at <= now


@pytest.mark.needs(Promise.MONGODB_OUTAGE)
async def test_an_outage_of_mongodb_hurts_no_job(worker, engine_settings, caplog):
    @worker.task
    async def fine() -> str:
        return "done"

    port = urlsplit(str(engine_settings.mongodb_url)).port
    assert port
    proxy = Proxy(port)
    engine_settings.mongodb_url = f"mongodb://{HOST}:{proxy.port}/?directConnection=true"
    async with AsyncExitStack() as before, AsyncExitStack() as after:
        await before.enter_async_context(proxy.running())
        async with running(worker, engine_settings):
            found = await wait_for_worker(worker)
            assert await (await fine.enqueue()).result(WAIT) == "done"
            await before.aclose()
            await eventually(lambda: "heartbeat wait for a server" in caplog.text, WAIT)
            assert await (await fine.enqueue()).result(WAIT) == "done"
            await after.enter_async_context(proxy.running())

            async def is_seen() -> bool:
                (now,) = await worker.workers()
                return now.seen_at > found.seen_at

            await eventually(is_seen, WAIT)
            await worker._opened.minutes.write(is_last=True)
            (period,) = await worker.statistics.read(datetime.now(UTC) - timedelta(minutes=5))
            assert period.total.completed == 2

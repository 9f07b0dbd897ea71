"""A rotation of SECRET_KEY while two real workers run, in the order that the README gives."""

import os
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from core.config import ROOT, Settings, load_settings
from core.dev.servers import free_port
from core.entry import open_service
from core.tasks import Job, JobStatus
from core.tasks.engines import DEFAULT
from core.testing import _answers, empty, eventually
from core.tests.running import WAIT
from core.tests.service import service, ship, worker

pytestmark = pytest.mark.skipif(DEFAULT == "local", reason="the job queue is off: no workers")

OLD, NEW = "o" * 32, "n" * 32


@pytest.fixture
async def queue_settings(settings: Settings, monkeypatch) -> AsyncIterator[Settings]:
    monkeypatch.setenv("TASK_ENGINE", DEFAULT)
    monkeypatch.setenv("SECRET_KEY", NEW)
    monkeypatch.setenv("SECRET_KEY_PREVIOUS", OLD)
    yield load_settings()
    await empty(settings)


@asynccontextmanager
async def worker_with(key: str, previous: str | None = None) -> AsyncIterator[None]:
    """Run a worker process for a block."""
    port = free_port()
    environment = {**os.environ, "WORKER_PORT": str(port), "SECRET_KEY": key}
    if previous:
        environment["SECRET_KEY_PREVIOUS"] = previous
    command = [sys.executable, "-m", "core", "worker"]
    process = subprocess.Popen(command, cwd=ROOT, env=environment)
    try:
        await eventually(lambda: _answers(port, "/health/ready"), WAIT)
        yield
    finally:
        process.terminate()
        process.wait()


async def enqueue(settings: Settings, key: str, count: int) -> list[Job[None]]:
    """Enqueue jobs as a web process with this key does."""
    changed = Settings.model_validate({**settings.model_dump(), "secret_key": key})
    async with worker.open(changed):
        return await ship.enqueue_many([[f"o-{number}"] for number in range(count)])


async def test_both_keys_are_in_use_and_no_job_waits(queue_settings: Settings):
    """The second deploy: the new key is SECRET_KEY, and the first deploy accepted it before."""
    async with worker_with(OLD, previous=NEW), worker_with(NEW, previous=OLD):
        jobs = await enqueue(queue_settings, OLD, 20) + await enqueue(queue_settings, NEW, 20)
        async with open_service(service, queue_settings):
            for job in jobs:
                record = await worker.job(job.id).wait(WAIT)
                assert record.state is JobStatus.COMPLETED
                assert record.unknown_since is None
            assert await worker.dead_letters.count() == 0


async def test_without_the_first_deploy_jobs_wait_for_the_new_workers(queue_settings: Settings):
    async def waits() -> bool:
        return (await worker.job(job.id).record()).unknown_since is not None

    (job,) = await enqueue(queue_settings, NEW, 1)
    async with open_service(service, queue_settings):
        async with worker_with(OLD):
            await eventually(waits, WAIT)
        async with worker_with(NEW, previous=OLD):
            assert (await worker.job(job.id).wait(WAIT)).state is JobStatus.COMPLETED
        assert await worker.dead_letters.count() == 0

"""Messages that are signed with a key that this worker does not have."""

from typing import Any

import pytest

from core.tasks import JobStatus, Worker, executor
from core.tasks.message import Signer
from core.testing import eventually
from core.tests.running import WAIT


@pytest.fixture
def engine_settings(engine_settings):
    return engine_settings.model_copy(update={"task_unknown_period": 600.0})


async def test_a_message_waits_for_a_worker_that_has_its_key(worker: Worker, run, monkeypatch):
    monkeypatch.setattr(executor, "UNKNOWN_SECONDS", 0.1)
    attempts = []

    @worker.task(retry_delay=0.1, jitter=False)
    async def fragile() -> str:
        attempts.append(1)
        if len(attempts) == 1:
            raise ValueError
        return "done"

    async with run():
        queue = worker.queue
        ours, other = queue.signer, Signer(["o" * 32])
        queue.signer = other
        job = await fragile.enqueue()
        queue.signer = ours

        async def waits() -> Any:
            (record,) = await queue.engine.records.read([job.id])
            return record.unknown_since

        await eventually(waits, WAIT)
        # The record has the other key's signature too.
        assert await job.status() is JobStatus.UNKNOWN
        queue.signer = other
        assert await job.status() in (JobStatus.SCHEDULED, JobStatus.PENDING, JobStatus.RUNNING)
        assert await job.result(WAIT) == "done"
        record = await job.record()
        assert record.attempt == 2
        # The next deploy grants the whole time again.
        assert record.unknown_since is None
        assert await worker.dead_letters.count() == 0

"""Dead letters: nothing is dropped, everything can be seen and replayed."""

import asyncio
from datetime import UTC, datetime, timedelta

import pytest

from core.models import DeadLetterModel, DeadLetterState
from core.tasks import JobFailed, NotReplayable, PermanentError, Worker
from core.tasks.engine import Delivery
from core.tasks.engines import AVAILABLE
from core.tests.running import running

WAIT = 10


@pytest.fixture
def worker() -> Worker:
    return Worker()


@pytest.fixture(params=AVAILABLE)
async def run(request, worker, settings):
    """Opens the worker, and runs jobs in this process."""
    settings = settings.model_copy(update={"task_engine": request.param})
    return lambda: running(worker, settings)


async def letters(worker: Worker, count: int, **filters) -> list[DeadLetterModel]:
    """The dead letters, once there are so many."""
    async with asyncio.timeout(WAIT):
        while len(found := await worker.dead_letters.list(**filters)) < count:
            await asyncio.sleep(0.02)
    return found


async def test_a_failed_job_can_be_seen_and_replayed(worker, run):
    broken = True

    @worker.task(max_retries=1, retry_delay=0.01)
    async def fragile(order: str, *, amount: int) -> int:
        if broken:
            raise ValueError(f"no order {order}")
        return amount

    async with run():
        job = await fragile.enqueue("o-1", amount=3)
        with pytest.raises(JobFailed):
            await job.result(WAIT)
        (letter,) = await letters(worker, 1)
        assert (letter.job_id, letter.task, letter.attempts) == (job.id, "fragile", 2)
        assert (letter.error_type, letter.error) == ("ValueError", "no order o-1")
        assert letter.arguments == '{"order": "o-1", "amount": 3}'
        assert "raise ValueError" in letter.traceback
        assert letter.correlation_id == (await job.record())["correlation_id"]

        broken = False
        ids = await asyncio.gather(*(worker.dead_letters.replay(letter.id) for _ in range(3)))
        assert len(set(ids)) == 1  # replayed once, however often it is asked
        assert ids[0] != job.id
        assert await worker.job(ids[0]).result(WAIT) == 3
        (letter,) = await worker.dead_letters.list(state=DeadLetterState.REPLAYED)
        assert letter.replayed_as == ids[0]
        assert await worker.dead_letters.list() == []
        with pytest.raises(NotReplayable, match=f"was replayed as job {ids[0]}"):
            await worker.dead_letters.discard(letter.id)


async def test_they_are_found_by_task_error_and_time(worker, run):
    @worker.task(max_retries=0)
    async def one() -> None:
        raise ValueError

    @worker.task
    async def two() -> None:
        raise PermanentError

    async with run():
        await one.enqueue()
        await two.enqueue()
        await letters(worker, 2)
        now = datetime.now(UTC)
        assert [letter.task for letter in await worker.dead_letters.list(task="one")] == ["one"]
        assert [letter.task for letter in await worker.dead_letters.list(error="PermanentError")] == ["two"]
        assert await worker.dead_letters.list(since=now + timedelta(seconds=1)) == []
        assert len(await worker.dead_letters.list(until=now + timedelta(seconds=1))) == 2

        (letter,) = await worker.dead_letters.list(task="one")
        await worker.dead_letters.discard(letter.id)
        assert [letter.task for letter in await worker.dead_letters.list()] == ["two"]
        with pytest.raises(NotReplayable, match="was discarded"):
            await worker.dead_letters.replay(letter.id)
        with pytest.raises(NotReplayable, match="there is no dead letter nothing"):
            await worker.dead_letters.replay("nothing")


async def test_what_cannot_be_read_is_kept_as_it_is(worker, run):
    async with run():
        await worker.queue.engine.publish([Delivery("forged", b"00.{}", {"state": "pending"})])
        (letter,) = await letters(worker, 1)
        assert (letter.job_id, letter.raw, letter.error_type) == ("forged", "00.{}", "BadMessage")
        with pytest.raises(NotReplayable, match="could not be read"):
            await worker.dead_letters.replay(letter.id)


async def test_odd_arguments_and_errors_are_kept(worker, run):
    @worker.task(max_retries=0)
    async def odd(data: dict[str, int]) -> None:
        raise ValueError("half a character: \ud800" + "x" * 20_000)

    async with run():
        await odd.enqueue({"$set": 10**30, "a.b": 1, "": 2})
        (letter,) = await letters(worker, 1)
        assert '"$set": 1000000000000000000000000000000' in letter.arguments
        assert len(letter.error) == 10_000


async def test_they_wait_while_mongodb_is_down(worker, run, monkeypatch):
    from pymongo.errors import AutoReconnect

    from core.tasks import dead_letters

    @worker.task(max_retries=0)
    async def broken() -> None:
        raise ValueError

    monkeypatch.setattr(dead_letters, "MOVE_SECONDS", 0.05)
    store, down = dead_letters._store, True

    async def store_when_up(letter) -> None:
        if down:
            raise AutoReconnect("nobody there")
        await store(letter)

    # Only this call fails, as it would without a server; a real outage is in the tests of the template.
    monkeypatch.setattr(dead_letters, "_store", store_when_up)
    async with run():
        job = await broken.enqueue()
        with pytest.raises(JobFailed):
            await job.result(WAIT)
        await asyncio.sleep(0.2)
        assert await worker.dead_letters.list() == []
        assert len(await worker.queue.engine.records.buried()) == 1
        down = False
        await letters(worker, 1)
        assert await worker.queue.engine.records.buried() == []


async def test_a_job_that_ends_its_worker_again_and_again_dies(worker, run):
    ran = []

    @worker.task
    async def killer() -> None:
        ran.append(1)

    async with run():
        job = await killer.using(delay=0.3).enqueue()
        # As its record is after it has ended ten worker processes.
        await worker.queue.engine.records.write(job.id, {"deliveries": 10}, None)
        with pytest.raises(JobFailed, match="it has ended its worker process 10 times in a row"):
            await job.result(WAIT)
        await letters(worker, 1, task="killer")
    assert ran == []

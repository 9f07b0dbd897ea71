"""Dead letters: no failed job is lost, and each one can be seen, replayed and discarded."""

import asyncio
from datetime import UTC, datetime, timedelta

import pytest
from pymongo.errors import AutoReconnect

from core.models import DeadLetterModel, DeadLetterState
from core.tasks import (
    DeadLetterError,
    JobFailed,
    JobStatus,
    PermanentError,
    Worker,
    current_job,
    dead_letters,
    executor,
    upkeep,
)
from core.tasks.engine import Envelope
from core.testing import eventually
from core.tests.running import WAIT


async def wait_for_dead_letters(worker: Worker, count: int, **filters) -> list[DeadLetterModel]:
    """Return the dead letters once there are at least `count`."""

    async def find() -> list[DeadLetterModel] | None:
        found = await worker.dead_letters.list(**filters)
        return found if len(found) >= count else None

    found = await eventually(find, WAIT)
    assert found
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
        (letter,) = await wait_for_dead_letters(worker, 1)
        assert (letter.job_id, letter.task, letter.attempts) == (job.id, "fragile", 2)
        assert (letter.error_type, letter.error) == ("ValueError", "no order o-1")
        assert letter.arguments == '{"order": "o-1", "amount": 3}'
        assert "raise ValueError" in letter.traceback
        assert letter.correlation_id == (await job.record()).correlation_id

        broken = False
        replays = [worker.dead_letters.replay(letter.id) for _ in range(3)]
        ids = await asyncio.gather(*replays)
        assert len(set(ids)) == 1
        assert ids[0] != job.id
        assert await worker.job(ids[0]).result(WAIT) == 3
        (letter,) = await worker.dead_letters.list(state=DeadLetterState.REPLAYED)
        assert letter.replayed_as == ids[0]
        assert await worker.dead_letters.list() == []
        with pytest.raises(DeadLetterError, match=f"was replayed as job {ids[0]}"):
            await worker.dead_letters.discard(letter.id)


async def test_dead_letters_are_found_by_task_error_and_time(worker, run):
    @worker.task(max_retries=0)
    async def one() -> None:
        raise ValueError

    @worker.task
    async def two() -> None:
        raise PermanentError

    async def find(**filters) -> list[str]:
        return [letter.task for letter in await worker.dead_letters.list(**filters)]

    async with run():
        await one.enqueue()
        await two.enqueue()
        await wait_for_dead_letters(worker, 2)
        soon = datetime.now(UTC) + timedelta(seconds=1)
        assert await find(task="one") == ["one"]
        assert await find(error="PermanentError") == ["two"]
        assert await find(since=soon) == []
        assert len(await find(until=soon)) == 2

        (letter,) = await worker.dead_letters.list(task="one")
        await worker.dead_letters.discard(letter.id)
        assert await find() == ["two"]
        with pytest.raises(DeadLetterError, match="was discarded"):
            await worker.dead_letters.replay(letter.id)
        with pytest.raises(DeadLetterError, match="there is no dead letter nothing"):
            await worker.dead_letters.replay("nothing")


async def test_an_unreadable_message_is_kept_unchanged(worker, run):
    forged = Envelope("forged", b"00.{}", {"state": JobStatus.PENDING})
    async with run():
        await worker.queue.engine.publish([forged])
        (letter,) = await wait_for_dead_letters(worker, 1)
        assert (letter.job_id, letter.raw, letter.error_type) == ("forged", "00.{}", "BadMessage")
        with pytest.raises(DeadLetterError, match="cannot be read"):
            await worker.dead_letters.replay(letter.id)


async def test_unusual_arguments_and_errors_are_kept(worker, run):
    @worker.task(max_retries=0)
    async def odd(data: dict[str, int]) -> None:
        raise ValueError("half a character: \ud800" + "x" * 20_000)

    async with run():
        await odd.enqueue({"$set": 10**30, "a.b": 1, "": 2})
        (letter,) = await wait_for_dead_letters(worker, 1)
        assert '"$set": 1000000000000000000000000000000' in letter.arguments
        assert len(letter.error) == 10_000


async def test_dead_letters_stay_in_the_queue_while_mongodb_is_down(worker, run, monkeypatch):
    @worker.task(max_retries=0)
    async def broken() -> None:
        raise ValueError

    monkeypatch.setattr(upkeep, "MOVE_SECONDS", 0.05)
    store, refused = dead_letters._store, []

    async def refuse(letter) -> None:
        refused.append(letter)
        raise AutoReconnect("nobody there")

    async with run():
        stashed = worker.queue.engine.records.stashed
        # Only this call fails. The template's own tests stop a real server.
        monkeypatch.setattr(dead_letters, "_store", refuse)
        job = await broken.enqueue()
        with pytest.raises(JobFailed):
            await job.result(WAIT)
        await eventually(lambda: len(refused) >= 2, WAIT)
        assert await worker.dead_letters.list() == []
        assert len(await stashed()) == 1

        monkeypatch.setattr(dead_letters, "_store", store)
        await wait_for_dead_letters(worker, 1)

        async def is_empty() -> bool:
            return not await stashed()

        await eventually(is_empty, WAIT)


async def test_a_job_that_repeatedly_ends_its_worker_dies(worker, run):
    ran = []

    @worker.task
    async def killer() -> None:
        ran.append(1)

    async with run():
        # The record of a job that has ended ten worker processes.
        await worker.queue.engine.records.write("deadly", {"deliveries": 10}, None)
        job = await killer.using(job_id="deadly").enqueue()
        problem = "the job has ended its worker process 10 times in a row"
        with pytest.raises(JobFailed, match=problem):
            await job.result(WAIT)
        await wait_for_dead_letters(worker, 1, task="killer")
    assert ran == []


async def test_innocent_suspects_complete_one_at_a_time(worker, run, monkeypatch):
    """A job that ends its worker makes suspects of all jobs that ran at the same time."""
    monkeypatch.setattr(executor, "SUSPECT_SECONDS", (0.1, 0.2))
    running_now, most = 0, 0
    left = {"one", "two", "three"}

    @worker.task
    async def innocent() -> None:
        nonlocal running_now, most
        running_now += 1
        most = max(most, running_now)
        left.remove(current_job().id)
        await eventually(others_are_put_off, WAIT)
        running_now -= 1

    async def others_are_put_off() -> bool:
        return (await worker.queue.engine.stats()).scheduled == len(left)

    async with run():
        for job_id in left:
            await worker.queue.engine.records.write(job_id, {"deliveries": 9}, None)
        jobs = [await innocent.using(job_id=job_id).enqueue() for job_id in sorted(left)]
        for job in jobs:
            await job.result(3 * WAIT)
        assert await worker.dead_letters.list() == []
    assert most == 1

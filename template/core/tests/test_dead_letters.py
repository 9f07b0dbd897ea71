"""Dead letters: nothing is dropped, everything can be seen and replayed."""

import asyncio
import subprocess
import sys
from datetime import UTC, datetime, timedelta

import pytest

from core.entry import load_service
from core.models import DeadLetterModel, DeadLetterState
from core.tasks import DeadLetterError, JobFailed, JobStatus, PermanentError, Worker
from core.tasks.engine import Envelope

WAIT = 10


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
        assert letter.correlation_id == (await job.record()).correlation_id

        broken = False
        ids = await asyncio.gather(*(worker.dead_letters.replay(letter.id) for _ in range(3)))
        assert len(set(ids)) == 1  # replayed once, however often it is asked
        assert ids[0] != job.id
        assert await worker.job(ids[0]).result(WAIT) == 3
        (letter,) = await worker.dead_letters.list(state=DeadLetterState.REPLAYED)
        assert letter.replayed_as == ids[0]
        assert await worker.dead_letters.list() == []
        with pytest.raises(DeadLetterError, match=f"was replayed as job {ids[0]}"):
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
        assert [
            letter.task for letter in await worker.dead_letters.list(error="PermanentError")
        ] == ["two"]
        assert await worker.dead_letters.list(since=now + timedelta(seconds=1)) == []
        assert len(await worker.dead_letters.list(until=now + timedelta(seconds=1))) == 2

        (letter,) = await worker.dead_letters.list(task="one")
        await worker.dead_letters.discard(letter.id)
        assert [letter.task for letter in await worker.dead_letters.list()] == ["two"]
        with pytest.raises(DeadLetterError, match="was discarded"):
            await worker.dead_letters.replay(letter.id)
        with pytest.raises(DeadLetterError, match="there is no dead letter nothing"):
            await worker.dead_letters.replay("nothing")


async def test_what_cannot_be_read_is_kept_as_it_is(worker, run):
    async with run():
        await worker.queue.engine.publish(
            [Envelope("forged", b"00.{}", {"state": JobStatus.PENDING})]
        )
        (letter,) = await letters(worker, 1)
        assert (letter.job_id, letter.raw, letter.error_type) == ("forged", "00.{}", "BadMessage")
        with pytest.raises(DeadLetterError, match="cannot be read"):
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
    from core.tasks import upkeep

    @worker.task(max_retries=0)
    async def broken() -> None:
        raise ValueError

    monkeypatch.setattr(upkeep, "MOVE_SECONDS", 0.05)
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
        assert len(await worker.queue.engine.records.stashed()) == 1
        down = False
        await letters(worker, 1)
        async with asyncio.timeout(WAIT):
            while await worker.queue.engine.records.stashed():  # taken away after it was stored
                await asyncio.sleep(0.01)


async def test_a_job_that_ends_its_worker_again_and_again_dies(worker, run):
    ran = []

    @worker.task
    async def killer() -> None:
        ran.append(1)

    async with run():
        job = await killer.using(delay=0.3).enqueue()
        # As its record is after it has ended ten worker processes.
        await worker.queue.engine.records.write(job.id, {"deliveries": 10}, None)
        with pytest.raises(
            JobFailed, match="the job has ended its worker process 10 times in a row"
        ):
            await job.result(WAIT)
        await letters(worker, 1, task="killer")
    assert ran == []


async def test_who_was_only_near_is_not_punished(worker, run):
    """Jobs that ran beside one that ends its worker: they are suspects too, and complete one after the other."""
    running_now, most = 0, 0

    @worker.task
    async def innocent() -> None:
        nonlocal running_now, most
        running_now += 1
        most = max(most, running_now)
        await asyncio.sleep(0.1)
        running_now -= 1

    async with run():
        jobs = [await innocent.using(delay=0.3).enqueue() for _ in range(3)]
        for job in jobs:
            await worker.queue.engine.records.write(job.id, {"deliveries": 9}, None)
        for job in jobs:
            await job.result(30)
        assert await worker.dead_letters.list() == []
    assert most == 1


async def test_the_command_line(app, settings, user):
    """What a person sees, in a process of its own, with the database of this test."""
    worker = load_service(settings).worker
    before = worker.tasks["send_welcome_email"]

    async def fail(user_id: str) -> None:
        raise ValueError("the disk is full")

    async def command(*arguments: str) -> tuple[int, str, str]:
        words = [sys.executable, "-m", "core", "dead-letters", *arguments]
        done = await asyncio.to_thread(subprocess.run, words, capture_output=True, text=True)
        errors = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
        return done.returncode, done.stdout, "".join(errors)

    try:
        del worker.tasks["send_welcome_email"]
        task = worker.task(name="send_welcome_email", max_retries=0)(fail)
        for user_id in (str(user.id), "nobody"):
            with pytest.raises(JobFailed):
                await (await task.enqueue(user_id)).result(WAIT)
        second, first = await letters(worker, 2)
    finally:
        worker.tasks["send_welcome_email"] = before

    status, output, _ = await command("list", "--task", "send_welcome_email")
    assert status == 0
    assert [line.split()[0] for line in output.splitlines()] == [second.id, first.id]
    assert "ValueError: the disk is full" in output
    _, output, _ = await command("show", second.id)
    assert 'arguments: {"user_id": "nobody"}' in output
    assert "raise ValueError" in output
    status, output, errors = await command("replay")
    assert (status, output) == (2, "")
    assert errors.startswith("error: name the dead letters to replay")
    status, output, _ = await command("replay", first.id)
    assert (status, output.splitlines()[0][:-32]) == (0, f"{first.id} replayed as job ")
    assert output.endswith("completed\n")
    assert await command("discard", "--error", "ValueError", "--all") == (
        0,
        f"{second.id} discarded\n",
        "",
    )
    status, _, errors = await command("replay", second.id)
    assert (status, errors) == (2, f"error: dead letter {second.id} was discarded")

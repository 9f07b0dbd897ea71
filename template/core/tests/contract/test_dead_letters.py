"""Dead letters: no failed job is lost, and each one can be seen, replayed and discarded."""

import asyncio
from datetime import UTC, datetime, timedelta

import pytest
from prometheus_client import REGISTRY
from pymongo.errors import AutoReconnect

from core.database import with_transaction
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
    stash,
    upkeep,
)
from core.tasks.engine import Promise
from core.tasks.message import Signer
from core.tasks.outcome import Envelope
from core.tasks.records import ErrorFields, StashedLetter
from core.testing import eventually
from core.tests.running import WAIT
from core.tests.writing import stash_letters, write_record


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
    forged = Envelope("forged", b"00.\xff\xfe{}", {"state": JobStatus.PENDING})
    async with run():
        await worker.queue.engine.publish([forged])
        (letter,) = await wait_for_dead_letters(worker, 1)
        assert (letter.job_id, letter.error_type) == ("forged", "BadMessage")
        assert letter.body == forged.body
        with pytest.raises(DeadLetterError, match="cannot be replayed: the signature is not ours"):
            await worker.dead_letters.replay(letter.id)


async def test_a_replay_trusts_only_a_message_that_a_valid_key_signed(worker, run):
    """The key of this worker changes back and forth, as in a rotation that went wrong."""
    new, old = "n" * 32, "o" * 32
    ran = []

    @worker.task
    async def pay(amount: int) -> None:
        ran.append(amount)

    async with run():
        queue = worker.queue
        mine, queue.signer = queue.signer, Signer([new])
        message = pay.message("payment", {"amount": 3})
        envelope = queue.seal(message, None, "normal")
        copied = Envelope("copied", envelope.body, envelope.record)
        queue.signer = mine
        await queue.engine.publish([envelope, copied])
        found = await wait_for_dead_letters(worker, 2)
        letters = {each.job_id: each for each in found}
        letter = letters["payment"]
        # Somebody edits the document.
        edited = {"arguments": '{"amount": 1000}', "task": "pay"}
        await letter.set(edited)
        with pytest.raises(DeadLetterError, match="the signature is not ours"):
            await worker.dead_letters.replay(letter.id)
        assert [ids async for ids in worker.dead_letters.replay_many()] == []

        queue.signer = Signer([old, new])
        with pytest.raises(DeadLetterError, match="the signature is not ours"):
            await worker.dead_letters.replay(letters["copied"].id)
        job_id = await worker.dead_letters.replay(letter.id)
        await worker.job(job_id).wait(WAIT)
    assert ran == [3]


async def test_unusual_arguments_and_errors_are_kept(worker, run):
    @worker.task(max_retries=0)
    async def odd(data: dict[str, int]) -> None:
        raise ValueError("half a character: \ud800" + "x" * 20_000)

    async with run():
        await odd.enqueue({"$set": 10**30, "a.b": 1, "": 2})
        (letter,) = await wait_for_dead_letters(worker, 1)
        assert '"$set": 1000000000000000000000000000000' in letter.arguments
        assert letter.error.startswith("[the beginning was cut] xxx")
        assert len(letter.error) < 10_100


async def test_dead_letters_stay_in_the_queue_while_mongodb_is_down(worker, run, monkeypatch):
    @worker.task(max_retries=0)
    async def broken() -> None:
        raise ValueError

    monkeypatch.setattr(upkeep, "MOVE_SECONDS", 0.05)
    insert, refused = stash._insert, []

    async def refuse(letters) -> None:
        refused.extend(letters)
        raise AutoReconnect("nobody there")

    async with run():
        count_stashed = worker.dead_letters.count_stashed
        # Only this call fails. The template's own tests stop a real server.
        monkeypatch.setattr(stash, "_insert", refuse)
        job = await broken.enqueue()
        with pytest.raises(JobFailed):
            await job.result(WAIT)
        await eventually(lambda: len(refused) >= 2, WAIT)
        assert await worker.dead_letters.list() == []
        assert await count_stashed() == 1
        assert REGISTRY.get_sample_value("dead_letters_stashed") == 1

        monkeypatch.setattr(stash, "_insert", insert)
        await wait_for_dead_letters(worker, 1)

        await eventually(lambda: not REGISTRY.get_sample_value("dead_letters_stashed"), WAIT)
        assert await count_stashed() == 0


def make_letter(number: int, body: bytes = b"") -> StashedLetter:
    error: ErrorFields = {"type": "ValueError", "message": f"no {number}", "traceback": ""}
    return {**stash.make_dead_letter(f"job-{number}", None, body, 1, error), "id": f"{number}"}


@pytest.fixture
def move(worker, monkeypatch):
    """Return a function that moves the stashed dead letters.

    The worker does not move them. It might still store some when the test has ended.
    """

    async def do_nothing(_: object) -> None: ...

    move = stash.move
    monkeypatch.setattr(stash, "move", do_nothing)
    return lambda: move(worker.queue.engine.records)


async def test_no_stashed_dead_letter_is_left_behind(worker, run, move):
    """As after an outage of MongoDB, when many wait."""
    async with run():
        await stash_letters(worker, [make_letter(number) for number in range(9_000)])
        await move()
        assert await worker.dead_letters.count_stashed() == 0
        assert await worker.dead_letters.count() == 9_000


@pytest.mark.needs(Promise.MONGODB_OUTAGE)  # otherwise MongoDB limits every message
async def test_a_dead_letter_that_cannot_be_stored_holds_up_no_other(worker, run, move):
    letters = [make_letter(number) for number in range(5)]
    letters[1]["died_at"] = "yesterday"
    letters[2]["arguments"] = "x" * 17 * 1024**2
    letters[3]["attempts"] = 2**70
    async with run():
        await stash_letters(worker, letters)
        await move()
        assert await worker.dead_letters.count_stashed() == 0
        found = {letter.id: letter for letter in await worker.dead_letters.list()}
        assert sorted(found) == ["0", "1", "2", "3", "4"]
        for letter_id in ("1", "2", "3"):
            assert found[letter_id].error_type == "UnreadableDeadLetter"
            assert found[letter_id].body.startswith(b'{"id": "')
        assert found["2"].body.endswith(b"[the rest was cut]")


@pytest.mark.needs(Promise.MONGODB_OUTAGE)  # otherwise MongoDB limits every message
async def test_a_large_message_and_its_error_fit_into_mongodb(worker, run):
    """Not signed by us, so no limit held it back."""
    async with run():
        body = b"00." + b"x" * 17 * 1024**2
        await worker.queue.engine.publish([Envelope("big", body, {"state": JobStatus.PENDING})])
        (letter,) = await wait_for_dead_letters(worker, 1)
        assert (letter.job_id, letter.error_type) == ("big", "BadMessage")
        assert letter.body.endswith(b"xxx [the rest was cut]")


async def test_a_document_that_cannot_be_read_is_set_aside(worker, run, move, caplog):
    async with run():
        await stash_letters(worker, [make_letter(number) for number in range(3)])
        await move()
        collection = DeadLetterModel.get_pymongo_collection()
        await collection.update_one({"_id": "1"}, {"$unset": {"error_type": 1}})
        for _ in range(2):
            found = await worker.dead_letters.list()
            assert {letter.id for letter in found} == {"0", "2"}
        assert caplog.text.count("dead letter cannot be read") == 1
        assert await worker.dead_letters.count(state=DeadLetterState.UNREADABLE) == 1
        with pytest.raises(DeadLetterError, match="document of dead letter 1 cannot be read"):
            await worker.dead_letters.replay("1")


async def test_many_dead_letters_are_replayed_by_two_at_once_after_an_interruption(
    worker, run, move, monkeypatch
):
    monkeypatch.setattr(dead_letters, "REPLAY_BATCH", 10)
    ran: list[int] = []

    @worker.task
    async def count(number: int) -> None:
        ran.append(number)

    @worker.task
    async def other() -> None: ...

    async with run():
        letters = []
        for number in range(45):
            body = worker.queue.signer.dump(count.message(f"job-{number}", {"number": number}))
            letters.append({**make_letter(number, body), "task": "count"})
        await stash_letters(worker, [*letters, make_letter(45)])
        await move()
        send = worker.queue.send

        async def send_and_end(*arguments) -> None:
            await send(*arguments)
            raise KeyboardInterrupt

        # The process ends after it enqueued a batch, and before it marked the dead letters.
        with monkeypatch.context() as patch:
            patch.setattr(worker.queue, "send", send_and_end)
            with pytest.raises(KeyboardInterrupt):
                await anext(worker.dead_letters.replay_many(task="count"))
        assert await worker.dead_letters.count(task="count") == 45

        async def replay() -> list[str]:
            batches = [ids async for ids in worker.dead_letters.replay_many()]
            return [job_id for ids in batches for job_id in ids]

        first, second = await asyncio.gather(replay(), replay())
        job_ids = {*first, *second}
        assert job_ids == {letter["id"] for letter in letters}
        for job_id in job_ids:
            await worker.job(job_id).wait(WAIT)
        assert sorted(ran) == list(range(45))
        # The message of the last one is not valid.
        assert [letter.id for letter in await worker.dead_letters.list()] == ["45"]
        assert await worker.dead_letters.discard_many(error="ValueError") == 1
        assert await worker.dead_letters.count() == 0


async def test_a_replay_in_a_transaction_that_fails_changes_nothing(worker, run, move):
    ran = []

    @worker.task
    async def note(number: int) -> None:
        ran.append(number)

    async with run():
        body = worker.queue.signer.dump(note.message("job-0", {"number": 0}))
        await stash_letters(worker, [make_letter(0, body)])
        await move()

        async def replay(_session) -> None:
            await worker.dead_letters.replay("0")
            raise ValueError("no")

        with pytest.raises(ValueError, match="no"):
            await with_transaction(replay)
        (letter,) = await worker.dead_letters.list()
        job_id = await worker.dead_letters.replay(letter.id)
        await worker.job(job_id).wait(WAIT)
        assert ran == [0]


@pytest.mark.parametrize("query", [{}, {"task": "x"}, {"error_type": "x"}])
async def test_filters_use_an_index(worker, run, query):
    async with run():
        found = DeadLetterModel.get_pymongo_collection().find({"state": "dead", **query})
        plan = (await found.sort("died_at", -1).explain())["queryPlanner"]["winningPlan"]
        assert plan["inputStage"]["stage"] == "IXSCAN"


async def test_a_job_that_repeatedly_ends_its_worker_dies(worker, run):
    ran = []

    @worker.task
    async def killer() -> None:
        ran.append(1)

    async with run():
        job = await killer.using(delay=0.5).enqueue()
        # The record of a job that has ended ten worker processes.
        await write_record(worker, job.id, {"deliveries": 10})
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
        await eventually(others_wait, WAIT)
        running_now -= 1

    async def others_wait() -> bool:
        stats = await worker.queue.engine.stats()
        return stats.pending + stats.scheduled == len(left)

    async with run():
        jobs = [await innocent.using(job_id=job_id, delay=1).enqueue() for job_id in sorted(left)]
        for job_id in left:
            await write_record(worker, job_id, {"deliveries": 9})
        for job in jobs:
            await job.result(3 * WAIT)
        assert await worker.dead_letters.list() == []
    assert most == 1

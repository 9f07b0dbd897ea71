"""The engine `redis`, apart from the contract of all engines."""

import asyncio
import json
import os
import signal
import sys
from contextlib import AsyncExitStack
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel
from redis.asyncio import Redis

from core.config import ROOT, Settings
from core.context import TaskContext
from core.entry import Service, open_service
from core.tasks import JobStatus, Limit, QueueUnavailable, Sensitive, Worker, current_job, executor
from core.tasks.engine import RANKS
from core.tasks.engines.redis import consumer as redis_consumer
from core.tasks.engines.redis.client import GROUP
from core.tasks.limits import find_slots
from core.tasks.queue_server import Calls
from core.testing import eventually
from core.tests import children
from core.tests.running import WAIT, consuming, running
from core.tests.writing import stash_letters, write_record


@pytest.fixture
def redis_settings(settings: Settings) -> Settings:
    return settings.model_copy(update={"task_engine": "redis"})


@pytest.fixture
def quick_recovery(monkeypatch) -> None:
    """Let workers take the jobs of a dead one after a second."""
    monkeypatch.setattr(redis_consumer, "IDLE_SECONDS", 1)
    monkeypatch.setattr(redis_consumer, "BEAT_SECONDS", 0.3)
    monkeypatch.setattr(redis_consumer, "RECOVER_SECONDS", 0.1)


def connect(settings: Settings) -> Any:
    # A message has bytes that are not text.
    url = str(settings.redis_url)
    return Redis.from_url(url, decode_responses=True, encoding_errors="surrogateescape")


async def make_due(redis: Any, settings: Settings, job_id: str) -> None:
    await redis.zadd(f"{{{settings.queue_name}}}:scheduled:normal", {job_id: 0})


async def test_a_server_that_lost_its_data_gets_new_jobs(worker, redis_settings):
    """A server without persistence forgets its streams and scripts when it restarts."""

    async def forget_everything() -> None:
        async with connect(redis_settings) as redis:
            found = await redis.keys(f"*{redis_settings.queue_name}*")
            await redis.delete(*found)
            await redis.script_flush()

    @worker.task
    async def fine() -> str:
        return "done"

    async with running(worker, redis_settings):
        assert await (await fine.enqueue()).result(WAIT) == "done"
        await forget_everything()
        assert await (await fine.enqueue()).result(WAIT) == "done"
        assert await (await fine.using(delay=1).enqueue()).result(WAIT) == "done"


async def test_sensitive_arguments_are_encrypted_on_the_server(worker, redis_settings):
    class Card(BaseModel):
        holder: str
        number: Sensitive[str]

    @worker.task
    async def pay(user: str, token: Sensitive[str], card: Card) -> None: ...

    kept = []
    async with worker.open(redis_settings):
        await pay.enqueue("ada", "tok-5ecret", Card(holder="Ada", number="4711-0815"))
        async with connect(redis_settings) as redis:
            async for key in redis.scan_iter(match=f"*{redis_settings.queue_name}*"):
                if await redis.type(key) == "hash":
                    kept.append(str(await redis.hgetall(key)))
                elif await redis.type(key) == "string":
                    kept.append(str(await redis.get(key)))
                elif await redis.type(key) == "stream":
                    kept.append(str(await redis.xrange(key)))
    assert any("ada" in value for value in kept)
    everything = " ".join(kept)
    assert "tok-5ecret" not in everything
    assert "4711-0815" not in everything


async def test_a_stashed_text_that_is_no_dead_letter_holds_up_no_other(worker, redis_settings):
    @worker.task(max_retries=0)
    async def broken() -> None:
        raise ValueError

    async with running(worker, redis_settings):
        async with connect(redis_settings) as redis:
            await redis.hset(worker.queue.engine._client.stashed, mapping={"forged": "no JSON"})
        job = await broken.enqueue()
        await job.wait(WAIT)
        await worker.dead_letters.move()
        letters = {letter.job_id: letter for letter in await worker.dead_letters.list()}
        assert letters[job.id].task == "broken"
        assert letters["unknown"].body == b"no JSON"
        assert await worker.dead_letters.count_stashed() == 0


@pytest.mark.parametrize(
    "record",
    [
        b"",
        b"\xff",
        b"running\n\n{}",
        b"running 1 1 0 0 -\n\n[]",
        b"running 1 1 0 0 -\n5\n{}",
        b'running 1 1 0 0 -\n\n{"at":"tomorrow"}',
        b'running 1 1 0 0 -\n\n{"error":{}}',
        b"running many 1 0 0 -\n\n{}",
        b"no record\n\n{}",
        b"running 1 1 1 1 1 1 1\n\n{}",
    ],
)
async def test_a_record_that_cannot_be_read_is_unknown(worker, redis_settings, record):
    @worker.task
    async def fine() -> str:
        return "done"

    async with running(worker, redis_settings), connect(redis_settings) as redis:
        later = fine.using(delay=3600)
        job, other = await later.enqueue(), await later.enqueue()
        key = worker.queue.engine._client.record_key(job.id)
        await redis.set(key, record)
        assert await job.status() is JobStatus.UNKNOWN
        assert await other.status() is JobStatus.SCHEDULED
        await make_due(redis, redis_settings, job.id)
        assert await job.result(WAIT) == "done"


async def test_a_key_of_another_type_loses_no_job(worker, redis_settings):
    @worker.task
    async def fine() -> str:
        return "done"

    async with worker.open(redis_settings), connect(redis_settings) as redis:
        job, other = await fine.enqueue_many([[], []])
        key = worker.queue.engine._client.record_key(job.id)
        await redis.delete(key)
        await redis.hset(key, "state", "running")
        async with consuming(worker):
            assert await job.result(WAIT) == "done"
            assert await other.result(WAIT) == "done"


@pytest.mark.parametrize("line", ["running " + "1" * 200 + " x y", "running 12345678901234567890"])
async def test_a_record_with_impossible_numbers_loses_no_job(worker, redis_settings, line):
    @worker.task
    async def fine() -> None: ...

    async with worker.open(redis_settings), connect(redis_settings) as redis:
        job = await fine.enqueue()
        key = worker.queue.engine._client.record_key(job.id)
        await redis.set(key, f"{line}\n\n{{}}")
        async with consuming(worker):
            await job.result(WAIT)
            assert (await job.record()).fence == 1


async def test_an_entry_without_an_id_is_removed(worker, redis_settings):
    @worker.task
    async def fine() -> str:
        return "done"

    async def is_empty() -> bool:
        stats = await worker.queue.engine.stats()
        return (stats.pending, stats.running) == (0, 0)

    async with running(worker, redis_settings), connect(redis_settings) as redis:
        job = await fine.enqueue()
        assert await job.result(WAIT) == "done"
        async for stream in redis.scan_iter(f"*{redis_settings.queue_name}*", _type="stream"):
            await redis.xadd(stream, {"name": "no id"})
            await redis.xadd(stream, {"id": b"\xff", "body": "text"})
            await redis.xadd(stream, {"body": "text", "id": "other order"})
        await eventually(is_empty, WAIT)
        assert await (await fine.enqueue()).result(WAIT) == "done"


async def test_messages_of_a_killed_worker_are_taken(worker, redis_settings, quick_recovery):
    @worker.task
    async def fine() -> str:
        return "done"

    async with worker.open(redis_settings):
        client = worker.queue.engine._client
        jobs = await fine.enqueue_many([[]] * 250)
        await client.run("create", GROUP)
        for _ in range(3):
            await client.run("take", GROUP, "killed", 100, 3)
        assert (await worker.queue.engine.stats()).running == len(jobs)
        async with consuming(worker):
            for job in jobs:
                assert await job.result(WAIT) == "done"
                assert (await job.record()).fence == 2


async def test_messages_of_a_killed_worker_behind_many_live_ones_are_taken(
    worker, redis_settings, quick_recovery, monkeypatch
):
    monkeypatch.setattr(redis_consumer, "IDLE_SECONDS", 3600)

    @worker.task
    async def fine() -> str:
        return "done"

    async with worker.open(redis_settings), connect(redis_settings) as redis:
        client = worker.queue.engine._client
        stream = client.streams[1]

        async def take_all(name: str) -> None:
            while (await client.run("take", GROUP, name, 100, 3))[0]:
                pass

        await client.run("create", GROUP)
        await fine.enqueue_many([[]] * 1000)
        await take_all("living")
        jobs = await fine.enqueue_many([[]] * 250)
        await take_all("killed")
        held = await redis.xpending_range(stream, GROUP, "-", "+", 1000, "killed")
        entries = [each["message_id"] for each in held]
        day = 24 * 3600 * 1000
        await redis.xclaim(stream, GROUP, "killed", 0, entries, idle=day, justid=True)
        async with consuming(worker):
            results = await asyncio.gather(*(job.result(WAIT) for job in jobs))
        assert results == ["done"] * 250
        (living,) = (await redis.xpending(stream, GROUP))["consumers"]
        assert (living["name"], living["pending"]) == ("living", 1000)


async def test_streams_are_empty_when_their_jobs_have_ended(worker, redis_settings):
    """`benchmarks/queue_memory.py` of the template does the same with 100,000 jobs."""

    @worker.task
    async def fine() -> None: ...

    async with worker.open(redis_settings), connect(redis_settings) as redis:
        client, stats = worker.queue.engine._client, worker.queue.engine.stats

        async def measure() -> list[int]:
            return [await redis.memory_usage(stream, samples=0) for stream in client.streams]

        async def is_empty() -> bool:
            counts = await stats()
            return counts.pending + counts.running == 0

        await client.run("create", GROUP)
        empty = await measure()
        for priority in RANKS:
            call = fine.using(priority=priority).call
            await fine.submit_many(call, [((), {})] * 1000)
        full = await measure()
        async with consuming(worker):
            await eventually(is_empty, WAIT)
        for stream, before, most, after in zip(
            client.streams, empty, full, await measure(), strict=True
        ):
            assert await redis.xlen(stream) == 0
            assert after < 2 * before < most


async def test_due_jobs_move_in_bounded_steps(worker, redis_settings):
    """A long script would keep all other clients of the server waiting."""
    count = 2 * redis_consumer.MOVE_BATCH + 1

    @worker.task
    async def fine() -> None: ...

    async with worker.open(redis_settings), connect(redis_settings) as redis:
        client, stats = worker.queue.engine._client, worker.queue.engine.stats
        run = client.run
        sets = [f"{{{redis_settings.queue_name}}}:scheduled:{priority}" for priority in RANKS]
        steps: list[list[int]] = []

        async def note_steps(name: str, *words: Any) -> Any:
            if name != "due":
                return await run(name, *words)
            before = [await redis.zcard(key) for key in sets]
            reply = await run(name, *words)
            after = [await redis.zcard(key) for key in sets]
            steps.append([old - new for old, new in zip(before, after, strict=True)])
            return reply

        async def is_empty() -> bool:
            counts = await stats()
            return counts.pending + counts.running + counts.scheduled == 0

        for priority, key in zip(RANKS, sets, strict=True):
            call = fine.using(priority=priority, delay=3600).call
            jobs = await fine.submit_many(call, [((), {})] * count)
            await redis.zadd(key, {job.id: 0 for job in jobs})
        client.run = note_steps
        async with consuming(worker):
            await eventually(is_empty, WAIT)
        for moved in zip(*steps, strict=True):
            assert sum(moved) == count
            assert max(moved) <= redis_consumer.MOVE_BATCH


async def test_a_lost_reply_delays_no_job_and_counts_no_delivery(worker, redis_settings):
    @worker.task
    async def fine() -> str:
        return "done"

    async with worker.open(redis_settings):
        client = worker.queue.engine._client
        run = client.run
        lost: list[str] = []

        async def lose_the_first(name: str, *words: Any) -> Any:
            reply = await run(name, *words)
            if name == "take" and reply[0] and not lost:
                lost.append(name)
                raise QueueUnavailable("the connection ended")
            return reply

        client.run = lose_the_first
        job = await fine.enqueue()
        async with consuming(worker):
            assert await job.result(redis_consumer.IDLE_SECONDS / 2) == "done"
        assert lost
        assert (await job.record()).deliveries == 1


async def test_a_suspect_whose_beginning_was_lost_is_not_stuck(
    worker, redis_settings, quick_recovery
):
    """The server began it, but the reply was lost."""

    @worker.task
    async def fine() -> str:
        return "done"

    async with running(worker, redis_settings):
        records = worker.queue.engine.records
        begin = records.begin
        lost: list[str] = []

        async def lose_the_first(job_id: str, fence: int | None = None) -> Any:
            record = await begin(job_id, fence)
            if not lost:
                lost.append(job_id)
                raise QueueUnavailable("the connection ended")
            return record

        records.begin = lose_the_first
        job = await fine.using(delay=0.5).enqueue()
        await write_record(worker, job.id, {"deliveries": 5})
        assert await job.result(WAIT) == "done"
        assert lost == [job.id]


async def test_a_worker_taken_for_dead_takes_no_suspect_back(worker, redis_settings):
    @worker.task
    async def fine() -> None: ...

    async with worker.open(redis_settings):
        client, records = worker.queue.engine._client, worker.queue.engine.records
        job = await fine.enqueue()
        await write_record(worker, job.id, {"deliveries": 5})
        known = (await job.record()).fence
        await client.run("begin", job.id, "heir", known)
        late = await records.begin(job.id, known)
        assert late.worker == "heir"
        assert late.fence == known + 1
        await asyncio.to_thread(records.blame, job.id)
        assert (await job.record()).blocked == 0


async def test_large_messages_are_taken_a_few_at_a_time(worker, redis_settings):
    @worker.task
    async def store(text: str) -> None: ...

    async with worker.open(redis_settings):
        client = worker.queue.engine._client
        await store.enqueue_many([["x" * 500_000]] * 30)
        await client.run("create", GROUP)
        taken, _ = await client.run("take", GROUP, "any", 30, 3)
        assert len(taken) == 8


async def test_an_aborted_job_far_from_its_turn_is_skipped(worker, redis_settings):
    ran = []

    @worker.task
    async def store(text: str) -> None:
        ran.append(text[:5])

    async with open_service(Service([], [], worker), redis_settings):
        await store.enqueue_many([["x" * 500_000]] * 9)
        far = await store.enqueue("far")
        near = await store.using(priority="high").enqueue("near")
        assert await far.abort()
        assert await near.abort()
        assert (await worker.queue.engine.stats()).pending == 10
        last = await store.enqueue("last")
        async with consuming(worker):
            await last.result(WAIT)
            assert await far.status() is JobStatus.ABORTED
            await eventually(partial(is_empty, worker), WAIT)
    assert sorted(ran) == ["last", *["xxxxx"] * 9]


async def is_empty(worker: Worker) -> bool:
    stats = await worker.queue.engine.stats()
    return not stats.pending and not stats.running


async def test_the_keys_of_limits_are_hashed_on_the_server(worker, redis_settings):
    @worker.task(limit=Limit(concurrency=1, key=lambda card: card))
    async def pay(card: Sensitive[str]) -> None:
        await asyncio.sleep(60)

    redis_settings.task_grace_period = 0
    async with running(worker, redis_settings), connect(redis_settings) as redis:
        await pay.enqueue_many([["4711-0815"]] * 2)
        await eventually(partial(redis.keys, f"*{redis_settings.queue_name}*:waiting:*"), WAIT)
        kept = []
        async for key in redis.scan_iter(f"*{redis_settings.queue_name}*"):
            if await redis.type(key) == "hash":
                kept.append(f"{key} {await redis.hgetall(key)}")
            elif await redis.type(key) == "zset":
                kept.append(f"{key} {await redis.zrange(key, 0, -1)}")
            elif await redis.type(key) == "set":
                kept.append(f"{key} {await redis.smembers(key)}")
        assert len(kept) >= 4
        assert "4711" not in " ".join(kept)


async def test_no_job_waits_for_ever(worker, redis_settings, monkeypatch):
    """The job that held the slot is gone, and nobody gave the slot back."""
    monkeypatch.setattr(executor, "SLOT_SECONDS", (0.2, 0.2))

    @worker.task(limit=Limit(concurrency=1))
    async def limited() -> str:
        return "done"

    async with worker.open(redis_settings), connect(redis_settings) as redis:
        client, records = worker.queue.engine._client, worker.queue.engine.records
        gone = await limited.enqueue()
        await client.run("create", GROUP)
        await client.run("take", GROUP, "killed", 1, 3)
        slots = find_slots("limited", limited.options.limit, {})
        assert await records.acquire(gone.id, 1, slots) is None
        job = await limited.enqueue()
        async with consuming(worker):
            await eventually(partial(redis.keys, f"*{redis_settings.queue_name}*:waiting:*"), WAIT)
            assert await job.status() is JobStatus.PENDING
            await redis.delete(client.record_key(gone.id))
            assert await job.result(WAIT) == "done"


async def test_a_job_that_is_aborted_while_it_steps_aside_ends_at_once(worker, redis_settings):
    begun = asyncio.Event()

    @worker.task(limit=Limit(concurrency=1))
    async def limited() -> None:
        begun.set()
        await asyncio.sleep(60)

    redis_settings.task_grace_period = 0
    async with running(worker, redis_settings):
        records = worker.queue.engine.records
        acquire = records.acquire

        async def abort_if_missing(job_id: str, *words: Any) -> Any:
            missing = await acquire(job_id, *words)
            if missing is not None:
                await worker.queue.abort(job_id)
            return missing

        records.acquire = abort_if_missing
        await limited.enqueue()
        await asyncio.wait_for(begun.wait(), WAIT)
        job = await limited.enqueue()
        # Before it looks for a slot by itself.
        record = await job.wait(executor.SLOT_SECONDS[0] / 3)
        assert record.status is JobStatus.ABORTED


async def test_an_aborted_job_passes_the_slot_on_that_it_was_given(worker, redis_settings):
    ran = []
    may_end = asyncio.Event()

    @worker.task(limit=Limit(concurrency=1))
    async def limited(name: str) -> None:
        ran.append(name)
        await may_end.wait()

    async with running(worker, redis_settings):
        engine = worker.queue.engine

        async def is_waiting(count: int) -> bool:
            return (await engine.stats()).scheduled == count

        async def has_begun() -> bool:
            return ran == ["first"]

        first = await limited.enqueue("first")
        await eventually(has_begun, WAIT)
        given = await limited.enqueue("given")
        await eventually(partial(is_waiting, 1), WAIT)
        last = await limited.enqueue("last")
        await eventually(partial(is_waiting, 2), WAIT)
        engine.paused.set()
        may_end.set()
        await first.result(WAIT)
        await eventually(partial(is_waiting, 1), WAIT)  # one has the slot, and is in the stream
        await worker.queue.abort(given.id)
        engine.paused.clear()
        await last.result(executor.SLOT_SECONDS[0] / 3)  # before it looks for a slot by itself
    assert ran == ["first", "last"]


async def test_limits_leave_nothing_on_the_server(worker, redis_settings):
    may_end = asyncio.Event()

    @worker.task(limit=[Limit(concurrency=2), Limit(concurrency=1, key=lambda name: name)])
    async def limited(name: str) -> None:
        await may_end.wait()

    async with running(worker, redis_settings), connect(redis_settings) as redis:
        jobs = await limited.enqueue_many([[name] for name in "abc"] * 3)
        await eventually(partial(redis.keys, f"*{redis_settings.queue_name}*:waiting:*"), WAIT)
        # Some of the jobs run with another limit, and the last ones without a limit.
        limited.options = replace(limited.options, limit=Limit(concurrency=1))
        jobs += await limited.enqueue_many([["d"]] * 3)
        limited.options = replace(limited.options, limit=())
        jobs += await limited.enqueue_many([["e"]] * 3)
        may_end.set()
        for job in jobs:
            await job.result(WAIT)
        kept = await redis.keys(f"*{redis_settings.queue_name}*")
        assert not [key for key in kept if ":slots" in key or ":waiting:" in key]


async def test_damaged_slots_hold_up_no_job(worker, redis_settings):
    @worker.task(limit=Limit(concurrency=1))
    async def limited() -> str:
        return "done"

    async with worker.open(redis_settings), connect(redis_settings) as redis:
        (key,) = find_slots("limited", limited.options.limit, {})
        await redis.sadd(f"{{{redis_settings.queue_name}}}:slots:{key}", "nobody")
        await redis.zadd(f"{{{redis_settings.queue_name}}}:waiting:{key}", {"text": 0, "|": 1})
        jobs = await limited.enqueue_many([[]] * 3)
        async with consuming(worker):
            for job in jobs:
                assert await job.result(WAIT) == "done"


async def test_a_run_that_lost_its_job_gets_no_slot(worker, redis_settings):
    @worker.task(limit=Limit(concurrency=1))
    async def limited() -> None: ...

    async with worker.open(redis_settings):
        records = worker.queue.engine.records
        job = await limited.enqueue()
        slots = find_slots("limited", limited.options.limit, {})
        await records.begin(job.id)
        await records.begin(job.id)
        assert await records.acquire(job.id, 1, slots) is not None
        assert await records.acquire(job.id, 2, slots) is None
        assert await records.acquire(job.id, 1, slots) is not None


async def test_a_slot_comes_back_when_its_worker_is_killed(
    worker, redis_settings, tmp_path, start_worker
):
    @worker.task(limit=Limit(concurrency=1))
    async def limited() -> None: ...

    async with open_service(Service([], [], worker), redis_settings):
        held, *waiting = await limited.enqueue_many([[]] * 5)

        async def is_held() -> bool:
            stats = await worker.queue.engine.stats()
            return (stats.running, stats.scheduled) == (1, len(waiting))

        killed = await start_worker("killed")
        await eventually(is_held, WAIT)
        killed.kill()
        (tmp_path / "heir").touch()
        await start_worker("heir")
        for job in (held, *waiting):
            await job.result(3 * WAIT)
        fences = [(await job.record()).fence for job in (held, *waiting)]
        assert max(fences) > 1


async def test_an_abort_between_two_attempts_counts(worker, redis_settings):
    attempts = []

    @worker.task(retry_delay=0.5, jitter=False)
    async def broken() -> None:
        attempts.append(1)
        # The worker has not noticed the abort when this attempt fails.
        await worker.queue.abort(current_job().id)
        raise ValueError("not now")

    async with running(worker, redis_settings):
        job = await broken.enqueue()
        assert (await job.wait(WAIT)).status is JobStatus.ABORTED
    assert attempts == [1]


async def test_an_end_whose_reply_was_lost_counts_once(worker, redis_settings):
    ends: list[str] = []

    @worker.task
    async def first() -> int:
        return 1

    @worker.task(max_retries=0)
    async def second(value: int) -> int:
        raise ValueError("not now")

    async with running(worker, redis_settings):
        client = worker.queue.engine._client
        run = client.run

        async def lose_each_first(name: str, *words: Any) -> Any:
            reply = await run(name, *words)
            if name == "end":
                ends.append(name)
                if len(ends) % 2:
                    raise QueueUnavailable("the connection ended")
            return reply

        client.run = lose_each_first
        chain = await (first | second).enqueue()
        await chain.stages[1].wait(WAIT)
        assert await chain.statuses() == [JobStatus.COMPLETED, JobStatus.FAILED]
        await worker.dead_letters.move()
        assert len(await worker.dead_letters.list()) == 1
        stats = await worker.queue.engine.stats()
        assert (stats.pending, stats.running, stats.scheduled) == (0, 0, 0)


@pytest.mark.parametrize(
    ("owner", "helper"), [(redis_consumer.Consumer, "_settle_all"), (Calls, "repeat")]
)
async def test_an_error_beside_the_jobs_ends_the_worker(
    worker, redis_settings, monkeypatch, owner, helper
):
    started, has_failed = asyncio.Event(), asyncio.Event()

    async def fail(*_: object) -> None:
        await started.wait()
        has_failed.set()
        raise ValueError("no helper")

    @worker.task
    async def slow() -> str:
        started.set()
        await has_failed.wait()
        return "done"

    monkeypatch.setattr(owner, helper, fail)
    async with worker.open(redis_settings):
        job = await slow.enqueue()
        with pytest.raises(ValueError, match="no helper"):
            async with asyncio.timeout(WAIT):
                await worker.run(asyncio.Event())
        assert await job.status() is JobStatus.COMPLETED
        assert not worker.queue.engine.takes_jobs


async def test_a_worker_takes_jobs_before_the_first_one_arrives(
    worker, redis_settings, monkeypatch
):
    monkeypatch.setattr(redis_consumer, "WAIT_SECONDS", 10 * WAIT)
    async with running(worker, redis_settings):
        await eventually(lambda: worker.takes_jobs, WAIT)


async def test_no_worker_seems_dead_after_a_pause_of_the_server(worker, redis_settings):
    """While the server was away, no worker could show a sign of life."""

    @worker.task
    async def fine() -> None: ...

    async with worker.open(redis_settings):
        client = worker.queue.engine._client
        await fine.enqueue()
        await client.run("create", GROUP)
        taken, _ = await client.run("take", GROUP, "living", 1, 3)
        assert len(taken) == 1
        look = partial(client.run, "recover", GROUP, 0, 10, 500)
        await look()  # the first look after a pause
        assert (await worker.queue.engine.stats()).running == 1
        await asyncio.sleep(0.3)
        await look()
        assert (await worker.queue.engine.stats()).running == 1
        await asyncio.sleep(0.3)
        await look()
        assert (await worker.queue.engine.stats()).pending == 1


async def test_the_consumer_of_a_worker_ends_with_it(worker, redis_settings):
    async def find_consumers(redis: Any) -> list[str]:
        stream = worker.queue.engine._client.streams[1]
        return [found["name"] for found in await redis.xinfo_consumers(stream, GROUP)]

    @worker.task
    async def fine() -> None: ...

    async with worker.open(redis_settings), connect(redis_settings) as redis:
        client = worker.queue.engine._client
        async with consuming(worker):
            await (await fine.enqueue()).result(WAIT)
            own = await find_consumers(redis)
            assert len(own) == 1
        assert await find_consumers(redis) == []
        # The consumer of a killed worker stays as long as it holds a message.
        await fine.enqueue()
        await client.run("take", GROUP, "killed", 1, 3)
        await asyncio.sleep(0.01)
        await client.run("leave", GROUP, "", 5)
        assert await find_consumers(redis) == ["killed"]


async def test_another_worker_takes_the_jobs_of_a_stopped_one_at_once(worker, redis_settings):
    redis_settings.task_grace_period = 0
    started = asyncio.Event()
    attempts = []

    @worker.task
    async def long() -> str:
        attempts.append(1)
        if len(attempts) == 1:
            started.set()
            await asyncio.sleep(60)
        return "done"

    other = Worker()
    other.tasks = worker.tasks
    async with worker.open(redis_settings), other.open(redis_settings), AsyncExitStack() as stack:
        async with consuming(worker):
            job = await long.enqueue()
            await asyncio.wait_for(started.wait(), WAIT)
            await stack.enter_async_context(consuming(other))
        # Not after the idle time, when another worker would take it in any case.
        assert await job.result(redis_consumer.IDLE_SECONDS / 2) == "done"
        assert (await job.record()).attempt == 1  # a shutdown uses up no attempt


async def test_a_job_that_comes_back_to_the_worker_that_runs_it_runs_once(worker, redis_settings):
    """The worker showed no sign of life for a while, for example during an outage."""
    started, go_on = asyncio.Event(), asyncio.Event()
    begun = []

    @worker.task
    async def slow() -> str:
        begun.append(1)
        started.set()
        await go_on.wait()
        return "done"

    async with worker.open(redis_settings), connect(redis_settings) as redis:
        engine = worker.queue.engine
        job = await slow.enqueue()
        async with consuming(worker):
            await asyncio.wait_for(started.wait(), WAIT)
            stream = engine._client.streams[1]
            ((entry, _),) = await redis.xrange(stream)
            await engine._client.run("recover", GROUP, 0, 10, 0)
            await engine._client.run("recover", GROUP, 0, 10, 0)

            async def came_back() -> bool:
                stats = await engine.stats()
                return (stats.pending, stats.running) == (0, 1)

            await eventually(came_back, WAIT)
            assert await redis.xrange(stream, entry, entry) == []
            go_on.set()
            assert await job.result(WAIT) == "done"

            async def is_empty() -> bool:
                return await redis.xlen(stream) == 0

            await eventually(is_empty, WAIT)
        assert begun == [1]
        assert (await job.record()).fence == 1


ZOMBIE_SERVICE = """
import asyncio
import os
from pathlib import Path
from typing import Any

from core.entry import Service
from core.tasks import Limit, Worker
from core.tasks import time_limits
from core.tasks.engines.redis import consumer
from core.tests import children

time_limits.CLEANUP_SECONDS = 0.1
consumer.IDLE_SECONDS = 4
consumer.BEAT_SECONDS = 0.5
consumer.RECOVER_SECONDS = 0.2
worker = Worker()
service = Service([], [], worker)

@worker.task(max_retries=0)
async def work() -> None:
    with open(os.environ["GO_ON"] + ".begun", "a") as begun:
        begun.write(".")
    while not Path(os.environ["GO_ON"]).exists():
        await asyncio.sleep(0.05)
    if os.environ["GO_ON"].endswith("zombie"):
        raise RuntimeError("this worker was stopped")

@worker.task(limit=Limit(concurrency=1))
async def limited() -> None:
    await work()

@worker.task
async def hang() -> None:
    while True:
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            continue

describe = worker.task(process=True)(children.describe)
"""


@pytest.fixture
async def start_worker(tmp_path: Path, redis_settings: Settings):
    """Return a function that starts a worker process of `ZOMBIE_SERVICE`."""
    (tmp_path / "zombies.py").write_text(ZOMBIE_SERVICE)
    processes = []

    async def start(name: str) -> asyncio.subprocess.Process:
        changes = {
            "GO_ON": str(tmp_path / name),
            "PYTHONPATH": f"{tmp_path}:{ROOT}",
            "SERVICE": "zombies:service",
            "LOG_FORMAT": "json",
            "TASK_CONCURRENCY": "40",
            "TASK_GRACE_PERIOD": "0",
            "TASK_ENGINE": "redis",
        }
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "core", "worker"),
            env={**os.environ, **changes},
            stderr=asyncio.subprocess.PIPE,
        )
        processes.append(process)
        return process

    yield start
    for process in processes:
        if process.returncode is None:
            process.kill()
            await process.communicate()


async def test_a_worker_that_was_taken_for_dead_changes_nothing(
    worker, redis_settings, tmp_path, start_worker
):
    @worker.task(max_retries=0)
    async def work() -> None: ...

    async with open_service(Service([], [], worker), redis_settings):
        jobs = await work.enqueue_many([[]] * 40)

        async def has_begun(times: int) -> bool:
            records = await worker.queue.engine.records.read([job.id for job in jobs])
            return all(record.fence >= times for record in records)

        def is_running_all() -> bool:
            begun = tmp_path / "zombie.begun"
            return begun.exists() and begun.stat().st_size == len(jobs)

        zombie = await start_worker("zombie")
        await eventually(partial(has_begun, 1), WAIT)
        # The server records a job before its worker has read the reply.
        await eventually(is_running_all, WAIT)
        zombie.send_signal(signal.SIGSTOP)
        await start_worker("heir")
        await eventually(partial(has_begun, 2), 3 * WAIT)

        (tmp_path / "zombie").touch()
        zombie.send_signal(signal.SIGCONT)
        refused = 0
        async with asyncio.timeout(WAIT):
            while refused < len(jobs):
                line = await zombie.stderr.readline()
                refused += b"another worker has taken the job over" in line
        (tmp_path / "heir").touch()
        for job in jobs:
            assert await job.result(WAIT) is None
            assert (await job.record()).fence == 2
        await worker.dead_letters.move()
        assert await worker.dead_letters.list() == []
        assert await worker.history.list() == []

        async def is_empty() -> bool:
            stats = await worker.queue.engine.stats()
            return not (stats.pending or stats.running or stats.scheduled)

        await eventually(is_empty, WAIT)


async def test_a_worker_ends_although_a_job_ignores_its_cancellation(
    worker, redis_settings, start_worker
):
    @worker.task
    async def hang() -> None: ...

    async with open_service(Service([], [], worker), redis_settings):
        job = await hang.enqueue()
        process = await start_worker("any")

        async def is_running() -> bool:
            return await job.status() is JobStatus.RUNNING

        await eventually(is_running, 3 * WAIT)
        process.terminate()
        async with asyncio.timeout(WAIT):
            _, lines = await process.communicate()
        assert process.returncode == 0
        assert b"abandoned attempts were interrupted" in lines
        assert await job.status() is JobStatus.PENDING


async def test_the_log_lines_of_a_child_process_are_those_of_its_job(
    worker, redis_settings, start_worker
):
    describe = worker.task(process=True)(children.describe)
    async with open_service(Service([], [], worker), redis_settings):
        with TaskContext.use("request-1"):
            job = await describe.enqueue("tok-5ecret")
        process = await start_worker("any")
        await job.result(3 * WAIT)
        async with asyncio.timeout(WAIT):
            while b"in the child" not in (line := await process.stderr.readline()):
                assert line
    fields = json.loads(line)
    assert (fields["job_id"], fields["correlation_id"]) == (job.id, "request-1")
    assert fields["secret"] == "***"


async def test_jobs_that_are_left_are_counted(worker, redis_settings, monkeypatch, command):
    """`just disable-job-queue` stops then, so nobody loses sight of them."""

    @worker.task
    async def later() -> None: ...

    monkeypatch.setenv("TASK_ENGINE", "redis")
    async with open_service(Service([], [], worker), redis_settings):
        done = await command("drain", "--check")
        assert (done.status, done.errors) == (0, "")
        await later.enqueue()
        await later.using(delay=3600).enqueue()
        done = await command("drain", "--check")
    assert done.status == 1
    assert "The queue still has jobs: 1 pending, 0 running, 1 scheduled." in done.errors
    assert "`just drain`" in done.errors


async def test_drain_waits_until_no_job_is_left(worker, redis_settings, monkeypatch, command):
    @worker.task
    async def later() -> None: ...

    monkeypatch.setenv("TASK_ENGINE", "redis")
    async with open_service(Service([], [], worker), redis_settings):
        job = await later.using(delay=3600).enqueue()
        drain = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "core", "drain"), stdout=asyncio.subprocess.PIPE
        )
        assert drain.stdout
        assert await drain.stdout.readline() == b"0 pending, 0 running, 1 scheduled\n"
        await stash_letters(worker, [{"id": "letter", "job_id": "dead"}])
        waiting = b"0 pending, 0 running, 1 scheduled, 1 dead letters to store\n"
        assert await drain.stdout.readline() == waiting
        listed = await command("dead-letters", "list")
        assert "1 more wait for a worker to store them in MongoDB\n" in listed.errors
        async with connect(redis_settings) as redis:
            await make_due(redis, redis_settings, job.id)
        async with consuming(worker):
            *_, last = (await asyncio.wait_for(drain.stdout.read(), 3 * WAIT)).splitlines()
            assert last == b"0 pending, 0 running, 0 scheduled"
            assert await drain.wait() == 0
            assert await job.status() is JobStatus.COMPLETED


async def test_foreign_entries_are_listed_without_harm(worker, redis_settings):
    """Entries and records that a stranger with the queue's password wrote."""

    @worker.task
    async def work(text: str = "") -> None: ...

    async with (
        open_service(Service([], [], worker), redis_settings),
        connect(redis_settings) as redis,
    ):
        engine: Any = worker.queue.engine
        stream, name = engine._client.streams[1], redis_settings.queue_name
        scheduled = f"{{{name}}}:scheduled:normal"
        first = await work.enqueue()
        await redis.xadd(stream, {"id": "", "body": "x"})
        await redis.xadd(stream, {"other": "fields"})
        await redis.xadd(stream, {"id": "\udcff bad id", "body": "x"})
        await redis.xadd(stream, {"id": "list", "body": "x"})
        await redis.rpush(engine._client.record_key("list"), "not a record")
        await redis.xadd(stream, {"id": "large", "body": "x"})
        await redis.set(engine._client.record_key("large"), "x" * 1024**2)
        last = await work.enqueue()
        found = await list_all(engine, JobStatus.PENDING, 1)
        assert found == [first.id, "\ufffd bad id", "list", "large", last.id]
        scores = {"forever": "inf", "never": "-inf", "\udcff:\n 1": "1e300", "part": 1.5}
        await redis.zadd(scheduled, scores)
        for limit in (1, 2, 10):
            later = await list_all(engine, JobStatus.SCHEDULED, limit)
            assert later == ["\ufffd:\n 1", "forever"]
            pending = await list_all(engine, JobStatus.PENDING, limit)
            assert pending == ["never", "part", *found]
        page = await worker.jobs.browse(state=JobStatus.SCHEDULED)
        assert [job.state for job in page.jobs] == [JobStatus.UNKNOWN] * 2
        assert max(job.at for job in page.jobs if job.at).year == 9999


async def list_all(engine: Any, status: JobStatus, limit: int) -> list[str]:
    """Return the ids of all jobs of a status, page by page."""
    ids: list[str] = []
    after: str | None = None
    while True:
        page, after = await engine.browse(status, after, limit)
        ids += [listed.id for listed in page]
        if after is None:
            return ids


async def test_a_scheduled_job_that_is_due_is_pending(worker, redis_settings):
    """No worker runs, so no worker moves the job into its stream."""

    @worker.task
    async def work() -> None: ...

    async with (
        open_service(Service([], [], worker), redis_settings),
        connect(redis_settings) as redis,
    ):
        engine = worker.queue.engine
        now = await work.enqueue()
        due, later = await work.using(delay=600).enqueue(), await work.using(delay=600).enqueue()
        await make_due(redis, redis_settings, due.id)
        urgent = await work.using(priority="high").enqueue()
        for limit in (1, 2, 3):
            assert await list_all(engine, JobStatus.PENDING, limit) == [urgent.id, due.id, now.id]
            assert await list_all(engine, JobStatus.SCHEDULED, limit) == [later.id]
        stats = await engine.stats()
        assert (stats.pending, stats.scheduled) == (3, 1)


async def test_a_page_of_large_messages_ends_early(worker, redis_settings):
    @worker.task
    async def work(text: str) -> None: ...

    async with open_service(Service([], [], worker), redis_settings):
        engine = worker.queue.engine
        jobs = [await work.enqueue("x" * 500_000) for _ in range(20)]
        page, after = await engine.browse(JobStatus.PENDING, None, 20)
        assert len(page) < len(jobs)
        assert after
        assert await list_all(engine, JobStatus.PENDING, 20) == [job.id for job in jobs]


async def test_a_position_of_scheduled_jobs_is_no_error_for_other_ones(worker, redis_settings):
    @worker.task
    async def work() -> None: ...

    async with open_service(Service([], [], worker), redis_settings):
        engine = worker.queue.engine
        for _ in range(2):
            await work.using(delay=3600).enqueue()
        _, after = await engine.browse(JobStatus.SCHEDULED, None, 1)
        for status in (JobStatus.PENDING, JobStatus.RUNNING):
            assert await engine.browse(status, after, 1) == ([], None)

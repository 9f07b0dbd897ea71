"""The adapter of streaq: the internals that it uses, and jobs that streaq alone would lose."""

import asyncio
import inspect
import sys
from pathlib import Path

import pytest
import streaq
from coredis import Redis
from pydantic import BaseModel
from streaq.types import StreamMessage

from core.config import Settings
from core.entry import Service, open_service
from core.tasks import JobStatus, Sensitive, Worker
from core.tasks.engines.streaq import worker as adapter
from core.testing import eventually
from core.tests.running import WAIT, running


@pytest.fixture
def streaq_settings(settings: Settings) -> Settings:
    return settings.model_copy(update={"task_engine": "streaq"})


def connect(settings: Settings) -> Redis[str]:
    return Redis.from_url(str(settings.redis_url), decode_responses=True)


def test_the_internals_that_the_adapter_uses_exist():
    assert list(inspect.signature(streaq.Worker.signal_handler).parameters) == ["self", "scope"]
    assert "self.signal_handler, tg.cancel_scope" in inspect.getsource(streaq.Worker.run_async)
    assert "_cancel_scopes" in vars(adapter.build_worker("redis://localhost", "x", 1, 1, None))
    assert list(inspect.signature(streaq.Worker.run_task).parameters) == ["self", "msg"]
    fields = {"message_id", "task_id", "priority", "enqueue_time"}
    assert StreamMessage.__annotations__.keys() == fields
    # `_PUBLISH` and `_END` write the same data as these functions of streaq.
    library = (Path(streaq.__file__).parent / "lua" / "streaq.lua").read_text()
    add = "redis.call('xadd', stream_key, '*', 'task_id', {}, 'enqueue_time', {})"
    assert add.format("task_id", "current_time") in library
    assert add.format("tids[j]", "tids[j + 1]") in library
    assert "redis.call('zadd', queue_key, score, task_id)" in library
    renewal = inspect.getsource(streaq.Worker.renew_idle_timeouts)
    assert "await self.run_task(msg)" in inspect.getsource(streaq.Worker.consumer)
    assert "self._running_tasks.items()" in renewal


async def test_lost_functions_are_loaded_again(worker, streaq_settings):
    """A server without persistence forgets its functions when it restarts."""

    async def forget_functions() -> None:
        async with connect(streaq_settings) as redis:
            await redis.function_delete("streaq")

    @worker.task
    async def fine() -> str:
        return "done"

    async with worker.open(streaq_settings):
        await forget_functions()
        job = await fine.enqueue()
        assert await job.status() is JobStatus.PENDING
        assert (await worker.queue.engine.stats()).pending == 1
        stop = asyncio.Event()
        consumer = asyncio.create_task(worker.run(stop))
        assert await job.result(WAIT) == "done"
        await forget_functions()
        assert await (await fine.using(delay=1).enqueue()).result(WAIT) == "done"
        stop.set()
        await consumer


async def test_sensitive_arguments_are_encrypted_on_the_server(worker, streaq_settings):
    class Card(BaseModel):
        holder: str
        number: Sensitive[str]

    @worker.task
    async def pay(user: str, token: Sensitive[str], card: Card) -> None: ...

    kept = []
    async with worker.open(streaq_settings):
        await pay.enqueue("ada", "tok-5ecret", Card(holder="Ada", number="4711-0815"))
        async with connect(streaq_settings) as redis:
            async for key in redis.scan_iter(match=f"*{streaq_settings.queue_name}*"):
                if await redis.type(key) == "hash":
                    kept.append(str(await redis.hgetall(key)))
                elif await redis.type(key) == "string":
                    kept.append(str(await redis.get(key)))
    assert any("ada" in value for value in kept)
    everything = " ".join(kept)
    assert "tok-5ecret" not in everything
    assert "4711-0815" not in everything


async def test_a_stashed_text_that_is_no_dead_letter_holds_up_no_other(worker, streaq_settings):
    @worker.task(max_retries=0)
    async def broken() -> None:
        raise ValueError

    async with running(worker, streaq_settings):
        async with connect(streaq_settings) as redis:
            await redis.hset(worker.queue.engine.records._stashed, {"forged": "no JSON"})
        job = await broken.enqueue()
        await job.wait(WAIT)
        await worker.dead_letters.move()
        letters = {letter.job_id: letter for letter in await worker.dead_letters.list()}
        assert letters[job.id].task == "broken"
        assert letters["unknown"].body == b"no JSON"
        assert await worker.dead_letters.count_stashed() == 0


async def test_another_worker_takes_the_jobs_of_a_stopped_one_at_once(worker, streaq_settings):
    """One of the two jobs is interrupted, and the other one has not begun."""
    streaq_settings.task_grace_period = 0
    streaq_settings.task_concurrency = 1
    started = asyncio.Event()
    attempts = []

    @worker.task
    async def long() -> str:
        attempts.append(1)
        if len(attempts) == 1:
            started.set()
            await asyncio.sleep(60)
        return "done"

    async def has_taken_both() -> bool:
        return not (await worker.queue.engine.stats()).pending

    async def is_reading() -> bool:
        async with connect(streaq_settings) as redis:
            return bool((await redis.info("clients"))["blocked_clients"])

    other = Worker()
    other.tasks = worker.tasks
    async with worker.open(streaq_settings), other.open(streaq_settings):
        stop, stop_other = asyncio.Event(), asyncio.Event()
        consumer = asyncio.create_task(worker.run(stop))
        jobs = await long.enqueue_many([[], []])
        await asyncio.wait_for(started.wait(), WAIT)
        await eventually(has_taken_both, WAIT)
        assert attempts == [1]
        other_consumer = asyncio.create_task(other.run(stop_other))
        await eventually(is_reading, WAIT)  # the other worker waits for new messages
        assert attempts == [1]
        stop.set()
        await consumer
        for job in jobs:
            # Not after the idle timeout, when another worker would take it in any case.
            assert await job.result(adapter.IDLE_TIMEOUT_SECONDS / 2) == "done"
            assert (await job.record()).attempt == 1  # a shutdown uses up no attempt
        stop_other.set()
        await other_consumer


async def test_drain_waits_until_no_job_is_left(worker, streaq_settings, monkeypatch, command):
    @worker.task
    async def later() -> None: ...

    monkeypatch.setenv("TASK_ENGINE", "streaq")
    async with open_service(Service([], [], worker), streaq_settings):
        job = await later.using(delay=3600).enqueue()
        drain = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "core", "drain"), stdout=asyncio.subprocess.PIPE
        )
        assert drain.stdout
        assert await drain.stdout.readline() == b"0 pending, 0 running, 1 scheduled\n"
        letter = {"id": "letter", "job_id": "dead"}
        await worker.queue.engine.records.stash("dead", {"state": JobStatus.FAILED}, 60, letter)
        waiting = b"0 pending, 0 running, 1 scheduled, 1 dead letters to store\n"
        assert await drain.stdout.readline() == waiting
        listed = await command("dead-letters", "list")
        assert "1 more wait for a worker to store them in MongoDB\n" in listed.errors
        async with connect(streaq_settings) as redis:  # make the job due
            queue_key = worker.queue.engine._client.queue_key
            await redis.zadd(queue_key + "normal", {job.id: 0})
        stop = asyncio.Event()
        consumer = asyncio.create_task(worker.run(stop))
        *_, last = (await asyncio.wait_for(drain.stdout.read(), 3 * WAIT)).splitlines()
        assert last == b"0 pending, 0 running, 0 scheduled"
        assert await drain.wait() == 0
        assert await job.status() is JobStatus.COMPLETED
        stop.set()
        await consumer

"""What the adapter of streaq relies on, and that it loses no job where streaq alone would."""

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
from core.tasks import JobStatus, Sensitive, Worker
from core.tasks.engine import Envelope
from core.tasks.engines.streaq import worker as adapter
from core.tests.running import running

WAIT = 10


@pytest.fixture
def streaq_settings(settings: Settings) -> Settings:
    return settings.model_copy(update={"task_engine": "streaq"})


def test_the_internals_it_relies_on_are_there():
    assert list(inspect.signature(streaq.Worker.signal_handler).parameters) == ["self", "scope"]
    assert "self.signal_handler, tg.cancel_scope" in inspect.getsource(streaq.Worker.run_async)
    assert "_cancel_scopes" in vars(adapter.build_worker("redis://localhost", "x", 1, 1, None))
    assert list(inspect.signature(streaq.Worker.run_task).parameters) == ["self", "msg"]
    assert StreamMessage.__annotations__.keys() == {
        "message_id",
        "task_id",
        "priority",
        "enqueue_time",
    }
    # What `_PUBLISH` and `_END` leave on the server is what streaq's own functions would.
    library = (Path(streaq.__file__).parent / "lua" / "streaq.lua").read_text()
    assert (
        "redis.call('xadd', stream_key, '*', 'task_id', task_id, 'enqueue_time', current_time)"
        in library
    )
    assert "redis.call('zadd', queue_key, score, task_id)" in library
    assert (
        "redis.call('xadd', stream_key, '*', 'task_id', tids[j], 'enqueue_time', tids[j + 1])"
        in library
    )
    running = inspect.getsource(streaq.Worker.consumer) + inspect.getsource(
        streaq.Worker.renew_idle_timeouts
    )
    assert "await self.run_task(msg)" in running
    assert "self._running_tasks.items()" in running


async def test_a_server_that_lost_its_functions_gets_them_again(worker, streaq_settings):
    """As after a restart without persistence."""

    @worker.task
    async def fine() -> str:
        return "done"

    async with worker.open(streaq_settings):
        async with Redis.from_url(str(streaq_settings.redis_url), decode_responses=True) as redis:
            await redis.function_delete("streaq")
        job = await fine.enqueue()
        assert await job.status() is JobStatus.PENDING
        assert (await worker.queue.engine.stats()).pending == 1
        stop = asyncio.Event()
        consumer = asyncio.create_task(worker.run(stop))
        assert await job.result(WAIT) == "done"
        async with Redis.from_url(str(streaq_settings.redis_url), decode_responses=True) as redis:
            await redis.function_delete("streaq")
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
        async with Redis.from_url(str(streaq_settings.redis_url), decode_responses=True) as redis:
            async for key in redis.scan_iter(match=f"*{streaq_settings.queue_name}*"):
                if await redis.type(key) == "hash":
                    kept.append(str(await redis.hgetall(key)))
                elif await redis.type(key) == "string":
                    kept.append(str(await redis.get(key)))
    assert any("ada" in value for value in kept)
    assert not any(secret in value for value in kept for secret in ("tok-5ecret", "4711-0815"))


async def test_a_body_of_any_bytes_becomes_a_dead_letter(worker, streaq_settings):
    @worker.task
    async def fine() -> str:
        return "done"

    async with running(worker, streaq_settings):
        await worker.queue.engine.publish(
            [Envelope("forged", b"00.\xff\xfe{}", {"state": JobStatus.PENDING})]
        )
        assert await (await fine.enqueue()).result(WAIT) == "done"
        assert (await worker.job("forged").wait(WAIT)).state is JobStatus.FAILED
        await worker.dead_letters.move()
        (letter,) = await worker.dead_letters.list()
        assert letter.raw == "00.\\xff\\xfe{}"


async def test_what_a_stopped_worker_leaves_goes_to_another_one_at_once(worker, streaq_settings):
    """One job is cut off in the middle, as at a deploy whose grace period was too short, and one has not begun."""
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

    other = Worker()
    other.tasks = worker.tasks
    async with worker.open(streaq_settings), other.open(streaq_settings):
        first, second = asyncio.Event(), asyncio.Event()
        consumer = asyncio.create_task(worker.run(first))
        jobs = await long.enqueue_many([[], []])
        await asyncio.wait_for(started.wait(), WAIT)
        while (await worker.queue.engine.stats()).pending:  # until it has taken both
            await asyncio.sleep(0.02)
        assert attempts == [1]
        running_too = asyncio.create_task(other.run(second))
        await asyncio.sleep(0.5)  # it finds nothing, and waits for new messages
        assert attempts == [1]
        first.set()
        await consumer
        for job in jobs:
            assert await job.result(WAIT) == "done"  # half the idle timeout
            assert (await job.record()).attempt == 1  # a shutdown uses up no attempt
        second.set()
        await running_too


async def test_drain_waits_until_nothing_is_left(streaq_settings, worker, monkeypatch):
    @worker.task
    async def later() -> None: ...

    monkeypatch.setenv("TASK_ENGINE", "streaq")
    async with running(worker, streaq_settings):
        job = await later.using(delay=5).enqueue()
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "core",
            "drain",
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
        output, errors = await asyncio.wait_for(process.communicate(), 30)
        assert process.returncode == 0, errors.decode()
        first, *_, last = output.decode().splitlines()
        assert first == "0 pending, 0 running, 1 scheduled"
        assert last == "0 pending, 0 running, 0 scheduled"
        assert await job.status() is JobStatus.COMPLETED

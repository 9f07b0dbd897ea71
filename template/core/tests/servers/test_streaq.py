"""The adapter of streaq: the internals that it uses, and jobs that streaq alone would lose."""

import asyncio
import inspect
import sys

import pytest
import streaq
from pydantic import BaseModel
from redis.asyncio import Redis
from streaq.constants import REDIS_GROUP
from streaq.types import StreamMessage

from core.config import Settings
from core.entry import Service, open_service
from core.tasks import JobStatus, Sensitive, Worker
from core.tasks.engine import Envelope
from core.tasks.engines.streaq import worker as adapter
from core.testing import eventually
from core.tests.running import WAIT, running


@pytest.fixture
def streaq_settings(settings: Settings) -> Settings:
    return settings.model_copy(update={"task_engine": "streaq"})


def connect(settings: Settings) -> Redis:
    return Redis.from_url(str(settings.redis_url), decode_responses=True)


def test_the_internals_that_the_adapter_uses_exist():
    fields = {"message_id", "task_id", "priority", "enqueue_time"}
    assert StreamMessage.__annotations__.keys() == fields
    producer = inspect.getsource(streaq.Worker.producer)
    assert "probe_first = True" in producer
    assert "reader = self._read_streams_legacy" in producer
    assert "for msg_id, msg, _, _ in msgs:" in producer
    assert "self._supports_max_count = False" in inspect.getsource(streaq.Worker.__init__)
    assert "await self.run_task(msg)" in inspect.getsource(streaq.Worker.consumer)
    consumers = list(inspect.signature(streaq.Worker.run_consumers).parameters)
    assert consumers == ["self", "receive", "renew_scope", "produce_scope", "task_status"]
    # The rest of these methods is not called, so none of them uses streaq's own client.
    for name in ("producer", "consumer", "run_consumers"):
        assert "redis" not in inspect.getsource(getattr(streaq.Worker, name)).lower()


async def test_a_server_that_lost_its_data_gets_new_jobs(worker, streaq_settings):
    """A server without persistence forgets its streams and scripts when it restarts."""

    async def forget_everything() -> None:
        async with connect(streaq_settings) as redis:
            found = await redis.keys(f"*{streaq_settings.queue_name}*")
            await redis.delete(*found)
            await redis.script_flush()

    @worker.task
    async def fine() -> str:
        return "done"

    async with running(worker, streaq_settings):
        assert await (await fine.enqueue()).result(WAIT) == "done"
        await forget_everything()
        assert await (await fine.enqueue()).result(WAIT) == "done"
        assert await (await fine.using(delay=1).enqueue()).result(WAIT) == "done"


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


async def test_a_body_of_any_bytes_becomes_a_dead_letter(worker, streaq_settings):
    @worker.task
    async def fine() -> str:
        return "done"

    forged = Envelope("forged", b"00.\xff\xfe{}", {"state": JobStatus.PENDING})
    async with running(worker, streaq_settings):
        await worker.queue.engine.publish([forged])
        assert await (await fine.enqueue()).result(WAIT) == "done"
        assert (await worker.job("forged").wait(WAIT)).state is JobStatus.FAILED
        await worker.dead_letters.move()
        (letter,) = await worker.dead_letters.list()
        assert letter.raw == "00.\\xff\\xfe{}"


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("state", b"running"),
        ("state", b"\xff"),
        ("state", b"[1]"),
        ("at", b'"tomorrow"'),
        ("progress", b"5"),
        ("error", b"{}"),
        ("deliveries", b'"many"'),
    ],
)
async def test_a_record_that_cannot_be_read_is_unknown(worker, streaq_settings, field, value):
    @worker.task
    async def fine() -> str:
        return "done"

    async with worker.open(streaq_settings), connect(streaq_settings) as redis:
        engine = worker.queue.engine
        job, other = await fine.enqueue_many([[], []])
        await redis.hset(engine.records.key(job.id), field, value)
        assert await job.status() is JobStatus.UNKNOWN
        assert await other.status() is JobStatus.PENDING
        await asyncio.gather(engine.records.begin(job.id, 3), engine.records.begin(other.id, 3))
        assert await other.status() is JobStatus.RUNNING


async def test_an_entry_without_an_id_is_removed(worker, streaq_settings):
    @worker.task
    async def fine() -> str:
        return "done"

    async def is_empty() -> bool:
        stats = await worker.queue.engine.stats()
        return (stats.pending, stats.running) == (0, 0)

    async with running(worker, streaq_settings), connect(streaq_settings) as redis:
        job = await fine.enqueue()
        assert await job.result(WAIT) == "done"
        async for stream in redis.scan_iter(f"*{streaq_settings.queue_name}*", _type="stream"):
            await redis.xadd(stream, {"name": "no id"})
            await redis.xadd(stream, {"task_id": b"\xff", "enqueue_time": "now"})
        await eventually(is_empty, WAIT)
        assert await (await fine.enqueue()).result(WAIT) == "done"


async def test_messages_of_a_killed_worker_are_taken(worker, streaq_settings, monkeypatch):
    monkeypatch.setattr(adapter, "IDLE_TIMEOUT_SECONDS", 1)

    @worker.task
    async def fine() -> str:
        return "done"

    async with worker.open(streaq_settings), connect(streaq_settings) as redis:
        stop = asyncio.Event()
        job = await fine.enqueue()
        (stream,) = await redis.keys(f"*{streaq_settings.queue_name}:queues:normal")
        await redis.xgroup_create(stream, REDIS_GROUP, "0")
        assert await redis.xreadgroup(REDIS_GROUP, "killed", {stream: ">"})
        consumer = asyncio.create_task(worker.run(stop))
        assert await job.result(WAIT) == "done"
        stop.set()
        await consumer


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


async def test_drain_waits_until_no_job_is_left(worker, streaq_settings, monkeypatch):
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
        async with connect(streaq_settings) as redis:  # make the job due
            (queue_key,) = await redis.keys(f"*{streaq_settings.queue_name}*:delayed:normal")
            await redis.zadd(queue_key, {job.id: 0})
        stop = asyncio.Event()
        consumer = asyncio.create_task(worker.run(stop))
        *_, last = (await asyncio.wait_for(drain.stdout.read(), 3 * WAIT)).splitlines()
        assert last == b"0 pending, 0 running, 0 scheduled"
        assert await drain.wait() == 0
        assert await job.status() is JobStatus.COMPLETED
        stop.set()
        await consumer

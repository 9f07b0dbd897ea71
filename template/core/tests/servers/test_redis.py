"""The adapter of streaq: the internals that it uses, and jobs that streaq alone would lose."""

import asyncio
import inspect
import json
import os
import signal
import sys
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import streaq
from pydantic import BaseModel
from redis.asyncio import Redis
from streaq.constants import REDIS_GROUP
from streaq.types import StreamMessage

from core.config import ROOT, Settings
from core.context import TaskContext
from core.entry import Service, open_service
from core.tasks import JobStatus, Sensitive, Worker
from core.tasks.engines.streaq import worker as adapter
from core.testing import eventually
from core.tests import children
from core.tests.running import WAIT, running


@pytest.fixture
def streaq_settings(settings: Settings) -> Settings:
    return settings.model_copy(update={"task_engine": "streaq"})


def connect(settings: Settings) -> Any:
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


async def test_a_stashed_text_that_is_no_dead_letter_holds_up_no_other(worker, streaq_settings):
    @worker.task(max_retries=0)
    async def broken() -> None:
        raise ValueError

    async with running(worker, streaq_settings):
        async with connect(streaq_settings) as redis:
            await redis.hset(worker.queue.engine.records._stashed, mapping={"forged": "no JSON"})
        job = await broken.enqueue()
        await job.wait(WAIT)
        await worker.dead_letters.move()
        letters = {letter.job_id: letter for letter in await worker.dead_letters.list()}
        assert letters[job.id].task == "broken"
        assert letters["unknown"].body == b"no JSON"
        assert await worker.dead_letters.count_stashed() == 0


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


async def test_a_message_stays_with_the_worker_that_took_it_over(worker, streaq_settings):
    started, go_on = asyncio.Event(), asyncio.Event()

    @worker.task
    async def slow() -> None:
        started.set()
        await go_on.wait()

    async with running(worker, streaq_settings), connect(streaq_settings) as redis:
        engine = worker.queue.engine
        job = await slow.enqueue()
        await asyncio.wait_for(started.wait(), WAIT)
        stream = engine._worker.stream_key + "normal"

        async def find_owners() -> list[str]:
            pending = await redis.xpending(stream, REDIS_GROUP)
            return [consumer["name"] for consumer in pending["consumers"]]

        ((message_id, _),) = await redis.xrange(stream)
        await redis.xclaim(stream, REDIS_GROUP, "heir", 0, [message_id])
        await engine._worker._renew_running()
        assert await find_owners() == ["heir"]
        go_on.set()
        await job.result(WAIT)
        await eventually(lambda: not engine._worker._running_tasks["normal"], WAIT)
        assert await find_owners() == ["heir"]


ZOMBIE_SERVICE = """
import asyncio
import os
from pathlib import Path
from typing import Any

from core.entry import Service
from core.tasks import Worker
from core.tasks import time_limits
from core.tasks.engines.streaq import worker as adapter
from core.tests import children

time_limits.CLEANUP_SECONDS = 0.1
adapter.IDLE_TIMEOUT_SECONDS = 2
worker = Worker()
service = Service([], [], worker)

@worker.task(max_retries=0)
async def work() -> None:
    while not Path(os.environ["GO_ON"]).exists():
        await asyncio.sleep(0.05)
    if os.environ["GO_ON"].endswith("zombie"):
        raise RuntimeError("this worker was stopped")

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
async def start_worker(tmp_path: Path, streaq_settings: Settings):
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
            "TASK_ENGINE": "streaq",
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
    worker, streaq_settings, tmp_path, start_worker
):
    @worker.task(max_retries=0)
    async def work() -> None: ...

    async with open_service(Service([], [], worker), streaq_settings):
        jobs = await work.enqueue_many([[]] * 40)

        async def has_begun(times: int) -> bool:
            records = await worker.queue.engine.records.read([job.id for job in jobs])
            return all(record.fence >= times for record in records)

        zombie = await start_worker("zombie")
        await eventually(partial(has_begun, 1), WAIT)
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
    worker, streaq_settings, start_worker
):
    @worker.task
    async def hang() -> None: ...

    async with open_service(Service([], [], worker), streaq_settings):
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
    worker, streaq_settings, start_worker
):
    describe = worker.task(process=True)(children.describe)
    async with open_service(Service([], [], worker), streaq_settings):
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

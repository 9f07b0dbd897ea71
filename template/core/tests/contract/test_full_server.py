"""A queue's server that answers but does not write: full, read-only, or without replicas."""

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable
from functools import partial

import pytest
from redis.asyncio import Redis

from core.dev.servers import HOST, free_port
from core.entry import Service, open_service
from core.tasks import Job, QueueUnavailable
from core.tasks.engine import Promise
from core.testing import empty, eventually
from core.tests.running import WAIT, consuming, running

pytestmark = pytest.mark.needs(Promise.BOUNDED)

TEXT = "x" * 1_000
BATCH = 200


@pytest.fixture
async def redis(server):
    """A client of the test's server."""
    port, _ = server
    async with Redis(port=port, decode_responses=True) as redis:
        yield redis


async def fill(redis: Redis, enqueue) -> None:
    """Leave the server memory for some more jobs, and enqueue jobs until it refuses one."""

    async def use(further: int) -> None:
        used = (await redis.info("memory"))["used_memory"]
        await redis.config_set("maxmemory", used + further)

    async def enqueue_until_refused() -> None:
        while True:
            await enqueue()

    await use(2_000_000)
    with pytest.raises(QueueUnavailable, match="is full"):
        await asyncio.wait_for(enqueue_until_refused(), WAIT)
    await use(-100_000)  # the refused batch itself took some memory


async def test_a_full_server_drains_and_no_job_runs_twice(worker, engine_settings, redis):
    runs: Counter[object] = Counter()
    begun, released = asyncio.Event(), asyncio.Event()

    @worker.task
    async def fine(text: str, number: int) -> None:
        runs[number] += 1

    @worker.task
    async def long() -> str:
        runs["long"] += 1
        begun.set()
        await released.wait()
        return TEXT

    @worker.task
    async def shorten(text: str) -> int:
        runs["shorten"] += 1
        return len(text)

    @worker.task(max_retries=0)
    async def broken() -> None:
        await released.wait()
        raise ValueError("broken")

    async def enqueue() -> None:
        numbers = range(len(jobs), len(jobs) + BATCH)
        jobs.extend(await fine.enqueue_many([[TEXT, number] for number in numbers]))

    jobs: list[Job[None]] = []
    engine_settings.task_concurrency = 2  # `long` and `broken` keep the worker from all others
    async with running(worker, engine_settings):
        chain = await (long | shorten).enqueue()
        failed = await broken.enqueue()
        await begun.wait()
        await fill(redis, enqueue)
        with pytest.raises(QueueUnavailable, match="is full"):
            await worker.queue.engine.check()
        released.set()
        assert await chain.result(WAIT) == len(TEXT)
        await asyncio.gather(*(job.wait(2 * WAIT) for job in (*jobs, failed)))
        await eventually(worker.dead_letters.count, WAIT)
        await fine.enqueue(TEXT, -1)
        await worker.queue.engine.check()
    numbers = Counter(range(len(jobs)))
    assert runs.keys() >= numbers.keys()
    assert set(runs.values()) == {1}


async def test_a_worker_that_starts_on_a_full_server_drains_it(worker, engine_settings, redis):
    @worker.task
    async def fine(text: str) -> None: ...

    async def enqueue() -> None:
        jobs.extend(await fine.enqueue_many([[TEXT]] * BATCH))

    jobs: list[Job[None]] = []
    try:
        async with open_service(Service([], [], worker), engine_settings):
            await fill(redis, enqueue)
            async with consuming(worker):
                await asyncio.gather(*(job.wait(2 * WAIT) for job in jobs))
                await fine.enqueue(TEXT)
    finally:
        await empty(engine_settings)


@pytest.mark.parametrize("problem", ["is a read-only replica", "has too few replicas"])
async def test_a_server_that_refuses_writes_is_named(worker, engine_settings, redis, problem):
    started, go_on = asyncio.Event(), asyncio.Event()
    runs = []

    @worker.task
    async def fine() -> str:
        return "done"

    @worker.task
    async def slow() -> str:
        runs.append(1)
        started.set()
        await go_on.wait()
        return "done"

    async def refuse() -> None:
        if problem == "has too few replicas":
            await redis.config_set("min-replicas-to-write", 1)
        else:
            await redis.replicaof(HOST, free_port())

    async def accept() -> None:
        await redis.config_set("min-replicas-to-write", 0)
        await redis.replicaof("no", "one")

    async def is_refused(call: Callable[[], Awaitable[object]]) -> bool:
        with pytest.raises(QueueUnavailable) as caught:
            await call()
        return problem in str(caught.value)

    async with running(worker, engine_settings):
        job = await fine.enqueue()
        assert await job.result(WAIT) == "done"
        late = await slow.enqueue()
        await asyncio.wait_for(started.wait(), WAIT)
        await refuse()
        go_on.set()
        for call in (fine.enqueue, worker.queue.engine.check):
            # A server that becomes a replica may close a connection first.
            await eventually(partial(is_refused, call), WAIT)
        assert await job.result(WAIT) == "done"
        await accept()
        assert await late.result(WAIT) == "done"
        assert runs == [1]
        assert await (await fine.enqueue()).result(WAIT) == "done"
        await worker.queue.engine.check()

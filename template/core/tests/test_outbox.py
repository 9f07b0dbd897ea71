"""Jobs that are enqueued in a transaction: delivered if and only if it commits."""

import asyncio
from dataclasses import replace
from pathlib import Path

import pytest

from core.database import TransactionsUnsupported, with_transaction
from core.dev.servers import MONGODB, free_port, start_server
from core.models import OutboxModel, ScheduleModel
from core.tasks import JobStatus, QueueUnavailable
from core.tests.running import running

WAIT = 10


async def save(name: str, session) -> None:
    """Something of the transaction beside its jobs."""
    await ScheduleModel(id=name, trigger="", enabled=False, next_run=None).insert(session=session)


async def test_a_job_runs_when_the_transaction_has_committed(worker, run):
    seen = []

    @worker.task
    async def look(name: str) -> bool:
        return await ScheduleModel.get(name) is not None

    async with run():

        async def create(session):
            job = await look.enqueue("here")
            await asyncio.sleep(0.2)
            seen.append(await job.status())
            await save("here", session)
            return job

        job = await with_transaction(create)
        assert await job.result(WAIT) is True
        assert await OutboxModel.count() == 0
    assert seen == [JobStatus.UNKNOWN]


async def test_nothing_of_a_transaction_that_fails_happens(worker, run):
    ran = []

    @worker.task
    async def never() -> None:
        ran.append(1)

    @worker.task
    async def after() -> None: ...

    async with run():

        async def fail(session):
            await never.enqueue()
            await (never | after).enqueue()
            await never.enqueue_many([[], []])
            await save("nothing", session)
            raise ValueError("no")

        with pytest.raises(ValueError, match="no"):
            await with_transaction(fail)
        await worker.queue.relay()
        await (await after.enqueue()).result(WAIT)  # outside again
        assert await ScheduleModel.get("nothing") is None
    assert ran == []


async def test_a_conflict_runs_it_again_and_the_job_once(worker, run):
    attempts, ran = [], []

    @worker.task
    async def count(number: int) -> None:
        ran.append(number)

    async with run():
        await save("shared", None)

        async def change(session):
            attempts.append(1)
            await ScheduleModel.find_one({"_id": "shared"}, session=session)
            if len(attempts) == 1:
                await ScheduleModel.find({"_id": "shared"}).update({"$set": {"trigger": "theirs"}})
            await count.enqueue(len(attempts))
            await ScheduleModel.find({"_id": "shared"}, session=session).update(
                {"$set": {"trigger": "ours"}}, session=session
            )
            return await count.enqueue(10)

        await (await with_transaction(change)).result(WAIT)
        async with asyncio.timeout(WAIT):
            while len(ran) < 2:
                await asyncio.sleep(0.02)
    assert len(attempts) == 2
    assert sorted(ran) == [2, 10]


@pytest.mark.parametrize(
    "error", [QueueUnavailable("no server"), RuntimeError("OOM command not allowed")]
)
async def test_workers_relay_what_the_process_that_committed_could_not(
    worker, run, monkeypatch, error
):
    """A transaction that has committed does not fail, whatever the queue says."""

    @worker.task
    async def late() -> str:
        return "done"

    @worker.task
    async def then(value: str) -> str:
        return value

    async with run():
        publish, down = worker.queue.engine.publish, True

        async def refuse(envelopes):
            if down:
                raise error
            await publish(envelopes)

        monkeypatch.setattr(worker.queue.engine, "publish", refuse)

        async def create(_session):
            return (
                await late.enqueue(),
                await (late | then).enqueue(),
                await late.using(delay=1.5).enqueue(),
            )

        job, chain, delayed = await with_transaction(
            create
        )  # the queue is down, and nobody is told
        assert await job.status() is JobStatus.UNKNOWN
        down = False
        assert await job.result(WAIT) == "done"
        assert await delayed.status() is JobStatus.SCHEDULED
        assert await chain.result(WAIT) == "done"
        assert await delayed.result(WAIT) == "done"


async def test_what_is_relayed_twice_runs_once(worker, run):
    """A process may end after it has published, and before it has said so."""
    runs = []

    @worker.task
    async def count(number: int) -> None:
        runs.append(number)

    async with run():
        waiting = []

        async def create(session):
            job = await count.enqueue(1)
            waiting.extend(await OutboxModel.find_all(session=session).to_list())
            return job

        job = await with_transaction(create)
        await waiting[0].insert()
        await worker.queue.relay()
        await job.result(WAIT)
        await waiting[0].insert()
        await worker.queue.relay()
        await (await count.enqueue(2)).result(WAIT)
        assert await OutboxModel.count() == 0
    assert runs == [1, 2]


async def test_a_unique_job_of_a_transaction_runs_after_it(worker, run):
    seen = []

    @worker.task(unique=True)
    async def rebuild() -> None:
        seen.append(await ScheduleModel.count())

    async with run():

        async def change(session):
            await save("new", session)
            before = await rebuild.using(delay=0.05).enqueue()
            return before, await rebuild.enqueue_many([])

        job, _ = await with_transaction(change)
        await job.result(WAIT)
    assert seen == [1]


async def test_a_transaction_inside_another_one_is_a_part_of_it(worker, run):
    ran = []

    @worker.task
    async def note(name: str) -> None:
        ran.append(name)

    async with run():

        async def inner(session):
            await save("inner", session)
            await note.enqueue("inner")

        async def outer(_session):
            await with_transaction(inner)
            raise ValueError("after all")

        with pytest.raises(ValueError, match="after all"):
            await with_transaction(outer)
        assert await ScheduleModel.get("inner") is None
        await (await note.enqueue("outside")).result(WAIT)
    assert ran == ["outside"]


async def test_a_server_without_transactions_is_told_in_one_line(worker, settings, tmp_path):
    def command(port: int, data: Path) -> list[str]:
        options = MONGODB.command(port, data)
        at = options.index("--replSet")
        return options[:at] + options[at + 2 :]

    alone = replace(MONGODB, command=command, prepare=lambda port: None)
    process = start_server(alone, tmp_path / "mongod", port := free_port())
    try:
        changed = settings.model_copy(update={"mongodb_url": MONGODB.url(port)})
        async with running(worker, changed):

            async def create(session) -> None:
                await save("one", session)

            with pytest.raises(TransactionsUnsupported, match="replica set"):
                await with_transaction(create)
    finally:
        process.kill()
        process.wait()

"""Jobs that are enqueued in a transaction: delivered if and only if it commits."""

import pytest

from core.database import with_transaction
from core.models import OutboxModel, ScheduleModel
from core.tasks import JobStatus, QueueUnavailable, upkeep
from core.testing import eventually
from core.tests.running import WAIT


async def save(name: str, session) -> None:
    """Store a document in a transaction."""
    await ScheduleModel(id=name, trigger="", enabled=False, next_run=None).insert(session=session)


async def test_a_job_runs_after_the_commit(worker, run):
    seen = []

    @worker.task
    async def look(name: str) -> bool:
        return await ScheduleModel.get(name) is not None

    async with run():

        async def create(session):
            job = await look.enqueue("here")
            await worker.queue.relay()  # as a worker may do at this time
            seen.append(await job.status())
            await save("here", session)
            return job

        job = await with_transaction(create)
        assert await job.result(WAIT) is True
        assert await OutboxModel.count() == 0
    assert seen == [JobStatus.UNKNOWN]


async def test_a_failed_transaction_enqueues_no_job(worker, run):
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
        await (await after.enqueue()).result(WAIT)  # outside the transaction
        assert await ScheduleModel.get("nothing") is None
    assert ran == []


async def test_after_a_conflict_the_function_runs_again_and_its_job_once(worker, run):
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
        await eventually(lambda: len(ran) >= 2, WAIT)
    assert len(attempts) == 2
    assert sorted(ran) == [2, 10]


@pytest.mark.parametrize(
    "error", [QueueUnavailable("no server"), RuntimeError("OOM command not allowed")]
)
async def test_workers_relay_jobs_that_the_committing_process_could_not(
    worker, run, monkeypatch, error
):
    """A transaction that has committed does not fail, even if the queue raises an error."""
    monkeypatch.setattr(upkeep, "RELAY_SECONDS", 0.1)

    @worker.task
    async def late() -> str:
        return "done"

    @worker.task
    async def then(value: str) -> str:
        return value

    async with run():
        publish, is_down = worker.queue.engine.publish, True

        async def refuse(envelopes):
            if is_down:
                raise error
            await publish(envelopes)

        monkeypatch.setattr(worker.queue.engine, "publish", refuse)

        async def create(_session):
            job = await late.enqueue()
            chain = await (late | then).enqueue()
            scheduled = await late.using(delay=0.3).enqueue()
            later = await late.using(delay=3600).enqueue()
            return job, chain, scheduled, later

        job, chain, scheduled, later = await with_transaction(create)
        assert await job.status() is JobStatus.UNKNOWN
        is_down = False
        assert await job.result(WAIT) == "done"
        assert await later.status() is JobStatus.SCHEDULED
        assert await chain.result(WAIT) == "done"
        assert await scheduled.result(WAIT) == "done"


async def test_a_message_that_is_relayed_twice_runs_once(worker, run):
    """A process may end after it published a message and before it deleted the row."""
    runs = []

    @worker.task
    async def count(number: int) -> None:
        runs.append(number)

    async with run():
        rows = []

        async def create(session):
            job = await count.enqueue(1)
            rows.extend(await OutboxModel.find_all(session=session).to_list())
            return job

        job = await with_transaction(create)
        await rows[0].insert()
        await worker.queue.relay()
        await job.result(WAIT)
        await rows[0].insert()
        await worker.queue.relay()
        await (await count.enqueue(2)).result(WAIT)
        assert await OutboxModel.count() == 0
    assert runs == [1, 2]


async def test_a_unique_job_of_a_transaction_runs_after_the_commit(worker, run):
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


async def test_a_transaction_inside_another_one_joins_it(worker, run):
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


@pytest.mark.parametrize(
    "fields",
    [
        {"records": "[}"},
        {"records": '{"other": {}}'},
        {"priority": "urgent"},
        {"at": float("inf")},
        {"body": None},
    ],
    ids=str,
)
async def test_a_document_that_cannot_be_read_holds_up_no_job(worker, run, caplog, fields):
    ran = []

    @worker.task
    async def note(number: int) -> None:
        ran.append(number)

    async with run():

        async def create(session):
            jobs = [await note.enqueue(number) for number in range(3)]
            broken = {"job_id": jobs[1].id}
            outbox = OutboxModel.get_pymongo_collection()
            await outbox.update_one(broken, {"$set": fields}, session=session)
            return jobs

        first, _, last = await with_transaction(create)
        await first.result(WAIT)
        await last.result(WAIT)
        await worker.queue.relay()
        assert ran == [0, 2]
        assert caplog.text.count("job in the outbox cannot be read") == 1
        (left,) = await OutboxModel.get_pymongo_collection().find().to_list()
        assert left["problem"]

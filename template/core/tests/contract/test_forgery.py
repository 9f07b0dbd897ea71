"""Forged records and messages, by a holder of the queue's password without SECRET_KEY.

`core/SECURITY.md` names these tests.
"""

import asyncio
import dataclasses
import json
import sys
import time
from base64 import urlsafe_b64encode

import pytest
from fastapi import HTTPException
from pydantic import SecretStr

from core.context import TaskContext
from core.models import DeadLetterModel, OutboxModel
from core.tasks import DeadLetterError, Job, JobFailed, JobStatus, Sensitive, Worker
from core.tasks.message import Message
from core.tasks.outcome import Envelope
from core.tasks.records import ErrorFields, RecordFields, StashedLetter
from core.testing import eventually
from core.tests.running import WAIT
from core.tests.writing import stash_letters, write_record
from core.web import view_job

VICTIM, MALLORY = "victim", "mallory"
FORGED = {"blob_id": "a file of the victim"}
COMPLETED: RecordFields = {"state": JobStatus.COMPLETED}
UNSIGNED: RecordFields = {"state": JobStatus.PENDING}
YEAR = 365 * 86400.0


async def is_visible(worker: Worker, job_id: str, user_id: str) -> bool:
    """Return whether a user can read a job at `GET /jobs/{id}`. Otherwise the answer is 404."""
    try:
        await view_job(worker, job_id, user_id)
    except HTTPException:
        return False
    return True


async def find_dead_letter(worker: Worker, job_id: str) -> DeadLetterModel:
    async def find() -> DeadLetterModel | None:
        return await DeadLetterModel.find_one({"job_id": job_id})

    letter = await eventually(find, WAIT)
    assert letter
    return letter


@pytest.fixture
def ran() -> list[str]:
    """The arguments of the runs of `work`."""
    return []


@pytest.fixture
def gate() -> asyncio.Event:
    """Lets `first` end."""
    return asyncio.Event()


@pytest.fixture
def first(worker, gate):
    """A task that waits for the gate. It is the first stage of a chain."""

    @worker.task
    async def first() -> str:
        await gate.wait()
        return "mine"

    return first


@pytest.fixture
def work(worker, ran):
    """A task that returns something that only its job's owner may see."""

    @worker.task(max_retries=0)
    async def work(text: str = "") -> dict[str, str]:
        ran.append(text)
        return {"blob_id": text}

    return work


def make_message(work, job_id: str, **fields) -> Message:
    """Return the message of a job, as somebody can capture it."""
    return dataclasses.replace(work.message(job_id, {"text": job_id}), **fields)


@pytest.mark.parametrize(
    "fields",
    [
        {"owner": MALLORY},
        {"task": "generate_sales_report"},
        {"result": FORGED},
        COMPLETED,
        {**COMPLETED, "result": FORGED},
        {"signature": "AAAA"},
    ],
)
async def test_an_altered_record_is_unknown(worker, run, work, caplog, fields):
    async with run():
        with TaskContext.use(actor=VICTIM):
            job = await work.using(delay=3600).enqueue()
        assert await is_visible(worker, job.id, VICTIM)
        await write_record(worker, job.id, fields)
        assert await job.status() is JobStatus.UNKNOWN
        assert not await is_visible(worker, job.id, VICTIM)
        assert not await is_visible(worker, job.id, MALLORY)
    assert "record refused" in caplog.text


async def test_a_new_or_copied_record_is_unknown(worker, run, work):
    async with run():
        with TaskContext.use(actor=MALLORY):
            job = await work.enqueue("mine")
        await job.result(WAIT)
        assert await is_visible(worker, job.id, MALLORY)
        record = await job.record()
        copied: RecordFields = {"task": "work", "owner": MALLORY, "signature": record.signature}
        forged: dict[str, RecordFields] = {
            "new": {**COMPLETED, "task": "work", "owner": MALLORY, "result": FORGED},
            "copied": {**COMPLETED, **copied, "result": record.result},
        }
        for job_id, fields in forged.items():
            await write_record(worker, job_id, fields)
            assert not await is_visible(worker, job_id, MALLORY)
            with pytest.raises(JobFailed, match="was SECRET_KEY changed"):
                await worker.job(job_id).result(WAIT)


async def test_the_record_of_a_later_stage_is_signed(worker, run, work, first, gate):
    async with run():
        with TaskContext.use(actor=VICTIM):
            chain = await (first | work).enqueue()
        later = chain.stages[1]
        assert await is_visible(worker, later.id, VICTIM)
        await write_record(worker, later.id, {"owner": MALLORY})
        assert not await is_visible(worker, later.id, MALLORY)
        gate.set()
        assert await chain.result(WAIT) == {"blob_id": "mine"}
        # The end of a run corrects what was altered.
        assert await is_visible(worker, later.id, VICTIM)


@pytest.mark.only("redis")
async def test_the_record_of_a_stage_does_not_expire_before_its_end(worker, run, monkeypatch):
    """The record of the third stage was written with the second one's, so it tells the time."""

    @worker.task
    async def first() -> int:
        return 1

    @worker.task
    async def second(value: int) -> int:
        await eventually(third_has_expired, WAIT)
        status.append(await chain.stages[1].status())
        return value

    @worker.task
    async def third(value: int) -> int:
        return value

    async def third_has_expired() -> bool:
        return await chain.stages[2].status() is JobStatus.UNKNOWN

    status: list[JobStatus] = []
    async with run():
        for name, module in list(sys.modules.items()):
            if name.startswith("core.tasks.engines."):
                monkeypatch.setattr(module, "FOLLOWING_SECONDS", 1, raising=False)
        chain = await (first | second | third).enqueue()
        await chain.stages[1].result(WAIT)
    assert status == [JobStatus.RUNNING]


async def test_a_record_is_read_with_the_previous_key(worker, settings):
    """The engine `local` forgets its records, so this test writes them again."""
    async with worker.open(settings):
        signed = worker.queue.sign_record("job", "work", VICTIM)
    changed = settings.model_copy(update={"secret_key": SecretStr("n" * 32)})
    both = changed.model_copy(update={"secret_key_previous": settings.secret_key})
    for each, status in ((both, JobStatus.SCHEDULED), (changed, JobStatus.UNKNOWN)):
        async with worker.open(each):
            scheduled: RecordFields = {"state": JobStatus.SCHEDULED, "at": time.time() + YEAR}
            await write_record(worker, "job", {**scheduled, **signed})
            assert await worker.job("job").status() is status


@pytest.mark.parametrize("holder", ["victims-job", "x victims-job", ""])
async def test_a_forged_holder_of_a_unique_key_is_refused(worker, run, caplog, holder):
    """Otherwise `enqueue` would return a job of another user, and `result` its result."""
    keys = []

    @worker.task(unique=True)
    async def rebuild(index: str) -> str:
        return index

    async with run():
        records = worker.queue.engine.records
        claim = records.claim

        async def note(claims, ttl):
            keys.extend(claims)
            return await claim(claims, ttl)

        records.claim = note
        await (await rebuild.enqueue("a")).result(WAIT)
        await claim({keys[0]: holder}, YEAR)
        job = await rebuild.enqueue("a")
        assert job.id not in ("victims-job", "")
        assert await job.result(WAIT) == "a"
    assert "holder of a unique key refused" in caplog.text


async def test_an_old_message_without_its_record_is_a_dead_letter(
    worker, run, work, ran, engine_settings
):
    """Somebody puts a captured message into the queue again, after its record has expired."""
    engine_settings.task_record_ttl = 0.5

    async with run():
        captured = worker.queue.seal(make_message(work, "job"), None, "normal")
        await worker.queue.send([captured])

        async def has_expired() -> bool:
            return bool(ran) and await worker.job("job").status() is JobStatus.UNKNOWN

        await eventually(has_expired, WAIT)
        again = dataclasses.replace(captured, record={**captured.record, "signature": "AAAA"})
        await worker.queue.engine.publish([again])
        letter = await find_dead_letter(worker, "job")
        assert "it may have run before" in letter.error
        assert ran == ["job"]

        replayed = await worker.dead_letters.replay(letter.id)
        assert await worker.job(replayed).result(WAIT) == {"blob_id": "job"}


async def test_a_job_that_waited_long_runs(worker, run, work):
    """Its record does not expire while it waits, so the job is not taken for a copy."""
    now = time.time()
    waiting = {"enqueued_at": now - YEAR, "due_at": now - YEAR / 2}
    due = {"enqueued_at": now - YEAR, "due_at": now - 1}
    async with run():
        long = worker.queue.seal(make_message(work, "long", **waiting), None, "normal")
        # The record of this job was lost, but it is due only now.
        lost = worker.queue.seal(make_message(work, "lost", **due), None, "normal")
        lost = dataclasses.replace(lost, record=UNSIGNED)
        await worker.queue.engine.publish([long, lost])
        for job_id in ("long", "lost"):
            assert await worker.job(job_id).result(WAIT) == {"blob_id": job_id}


async def test_a_message_under_another_id_is_refused(worker, run, work, ran):
    async with run():
        captured = worker.queue.seal(make_message(work, "job"), None, "normal")
        await worker.queue.engine.publish([Envelope("other", captured.body, UNSIGNED)])
        letter = await find_dead_letter(worker, "other")
        assert "the signature is not ours" in letter.error
    assert ran == []


async def test_no_record_is_signed_for_a_forged_message(worker, run, work, first, gate):
    """The stages that a refused message names are stopped, so it may name a chain of the victim."""
    async with run():
        with TaskContext.use(actor=VICTIM):
            chain = await (first | work).enqueue()
        stages = {"owner": MALLORY, "chain": chain.id, "rest": ["work", "work"]}
        body = worker.queue.seal(make_message(work, "job", **stages), None, "normal").body
        await worker.queue.engine.publish([Envelope("other", body, UNSIGNED)])
        await find_dead_letter(worker, "other")
        later = chain.stages[1]
        assert await later.status() is JobStatus.ABORTED
        assert await is_visible(worker, later.id, VICTIM)
        for job_id in (later.id, f"{chain.id}:2"):
            assert not await is_visible(worker, job_id, MALLORY)
        gate.set()


async def test_a_forged_stage_number_may_have_any_length(worker, run, work):
    numbers = b'"chain":"c","rest":["work"],"stage":' + b"9" * 4300
    async with run():
        body = bytes(16) + b'{"task":"work","enqueued_at":0,' + numbers + b"}"
        await worker.queue.engine.publish([Envelope("huge", body, UNSIGNED)])
        await find_dead_letter(worker, "huge")


async def test_a_forged_dead_letter_is_not_replayed(worker, run, work, ran):
    """Only a captured message of ours, unchanged, can be replayed."""

    def make_letter(letter_id: str, body: bytes) -> StashedLetter:
        return {
            "id": letter_id,
            "job_id": "job",
            "body": urlsafe_b64encode(body).decode(),
            "error_type": "ValueError",
            "error": "no",
            "attempts": 1,
            "died_at": time.time(),
            "task": "work",
            "arguments": '{"text": "forged"}',
            "owner": VICTIM,
        }

    async with run():
        genuine = worker.queue.seal(make_message(work, "job"), None, "normal").body
        altered = genuine.replace(b'"text":"job"', b'"text":"forged"')
        letters = [make_letter("altered", altered), make_letter("captured", genuine)]
        await stash_letters(worker, letters)
        await worker.dead_letters.move()
        with pytest.raises(DeadLetterError):
            await worker.dead_letters.replay("altered")
        again = await worker.dead_letters.replay("captured")
        await worker.job(again).result(WAIT)
        assert (await worker.job(again).record()).owner is None
    assert ran == ["job"]


async def test_a_forged_document_in_the_outbox_runs_nothing(worker, run, work, ran):
    """Somebody knows the password of MongoDB."""
    async with run():
        genuine = worker.queue.seal(make_message(work, "job"), None, "normal")
        await OutboxModel(
            job_id="job",
            body=genuine.body.replace(b'"text":"job"', b'"text":"forged"'),
            records=json.dumps({"job": genuine.record}),
            at=None,
            priority="normal",
        ).insert()
        await worker.queue.relay()
        letter = await find_dead_letter(worker, "job")
        assert letter.error_type == "BadMessage"
    assert ran == []


async def test_what_a_holder_of_the_password_can_do(worker, run, work, ran):
    """Abort or drop a job, show its owner another progress or error, and read plain arguments."""

    async def enqueue() -> Job[dict[str, str]]:
        with TaskContext.use(actor=VICTIM):
            return await work.using(delay=3600).enqueue()

    async with run():
        records = worker.queue.engine.records
        job = await enqueue()
        await write_record(
            worker, job.id, {"progress": {"done": 1, "total": 2, "message": "forged"}}
        )
        view = await view_job(worker, job.id, VICTIM)
        assert view.progress
        assert view.progress.message == "forged"

        await records.request_abort(job.id, WAIT)
        assert await job.status() is JobStatus.ABORTED

        failed = await enqueue()
        error: ErrorFields = {"type": "ValueError", "message": "forged", "traceback": ""}
        await write_record(worker, failed.id, {"state": JobStatus.FAILED, "error": error})
        with pytest.raises(JobFailed, match="forged"):
            await failed.result(WAIT)

        @worker.task
        async def pay(order: str, token: Sensitive[str]) -> None: ...

        arguments = pay.arguments.dump(("order-1", "tok-5ecret"), {})
        body = worker.queue.seal(pay.message("job", arguments), None, "normal").body
        assert b"order-1" in body
        assert b"tok-5ecret" not in body
    assert ran == []

"""The jobs of a service: listed by state, found by an id, and aborted."""

import asyncio
import threading
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from bson import ObjectId
from pymongo.errors import PyMongoError

from core.context import TaskContext
from core.models import DeadLetterModel, RunModel
from core.tasks import (
    Job,
    JobFailed,
    JobStatus,
    JobSummary,
    Task,
    Worker,
    jobs,
    report_progress,
    upkeep,
)
from core.tasks.engine import BadPosition, Promise
from core.tasks.summaries import NO_RECORD
from core.testing import eventually
from core.tests.running import WAIT, running
from core.tests.writing import write_record

ALICE, MALLORY = "alice", "mallory"
DAY = timedelta(days=1)


@pytest.fixture(autouse=True)
def short_pauses(monkeypatch) -> None:
    monkeypatch.setattr(upkeep, "WRITE_SECONDS", 0.05)
    monkeypatch.setattr(upkeep, "MOVE_SECONDS", 0.05)


@pytest.fixture
def work(worker):
    """A task that completes."""

    @worker.task
    async def work(number: int = 0) -> int:
        return number

    return work


@pytest.fixture
def broken(worker):
    """A task that is retried once, and then fails."""

    @worker.task(max_retries=1, retry_delay=0.01)
    async def broken() -> None:
        raise ValueError("first line\nsecond line")

    return broken


@pytest.fixture
def gate() -> asyncio.Event:
    """Lets `wait` end."""
    return asyncio.Event()


@pytest.fixture
def wait(worker, gate):
    """A task that reports progress, and then waits for the gate."""

    @worker.task
    async def wait(number: int = 0) -> int:
        await report_progress(1, 2, "half")
        await gate.wait()
        return number

    return wait


async def browse(worker: Worker, state: JobStatus, limit: int = 50, **filters: Any) -> list[str]:
    """Return the ids of all jobs of a state, page by page."""
    ids: list[str] = []
    after: str | None = None
    while True:
        page = await worker.jobs.browse(state=state, after=after, limit=limit, **filters)
        assert len(page.jobs) <= limit
        ids += [job.id for job in page.jobs]
        after = page.after
        if after is None:
            return ids


async def reach(worker: Worker, state: JobStatus, *expected: Job[Any]) -> list[JobSummary]:
    """Wait until the jobs of a state are the expected ones, and return these."""

    async def find() -> list[JobSummary] | None:
        page = await worker.jobs.browse(state=state)
        ids = {job.id for job in expected}
        return list(page.jobs) if {job.id for job in page.jobs} == ids else None

    found = await eventually(find, WAIT)
    assert found is not None
    return found


async def fail(job: Job[Any]) -> None:
    with pytest.raises(JobFailed):
        await job.result(WAIT)


async def test_a_job_is_listed_in_each_state(worker, run, work, broken, wait, gate):
    started = datetime.now(UTC) - timedelta(seconds=1)
    async with run():
        with TaskContext.use(correlation_id="request-1", actor=ALICE):
            later = await work.using(delay=3600).enqueue()
            running_job = await wait.enqueue()
        (scheduled,) = await reach(worker, JobStatus.SCHEDULED, later)
        assert (scheduled.task, scheduled.owner) == ("work", ALICE)
        assert scheduled.correlation_id == "request-1"
        assert scheduled.at
        assert scheduled.at > started + timedelta(minutes=50)

        async def has_progress() -> JobSummary | None:
            (found,) = (await worker.jobs.browse(state=JobStatus.RUNNING)).jobs
            return found if found.progress else None

        await reach(worker, JobStatus.RUNNING, running_job)
        now_running = await eventually(has_progress, WAIT)
        assert now_running
        assert now_running.progress
        assert now_running.at
        assert now_running.progress.message == "half"
        assert now_running.at >= started
        assert now_running.worker == worker.queue.engine.name
        gate.set()
        (completed,) = await reach(worker, JobStatus.COMPLETED, running_job)
        assert (completed.owner, completed.correlation_id) == (ALICE, "request-1")
        assert completed.worker == now_running.worker
        assert completed.seconds is not None

        job = await broken.enqueue()
        await fail(job)
        (failed,) = await reach(worker, JobStatus.FAILED, job)
        assert (failed.attempt, failed.error) == (2, "ValueError: first line")
        assert await worker.jobs.abort(later.id) is JobStatus.ABORTED
        assert await browse(worker, JobStatus.SCHEDULED) == []


async def test_jobs_that_wait_or_run_are_filtered(worker, run, work, wait):
    async with run():
        with TaskContext.use(actor=ALICE):
            mine = await work.using(delay=600).enqueue()
            other = await wait.using(delay=1200).enqueue()
        theirs = await work.using(delay=1800).enqueue()
        expected: list[tuple[dict[str, Any], list[Job[int]]]] = [
            ({}, [mine, other, theirs]),
            ({"task": "work"}, [mine, theirs]),
            ({"owner": ALICE}, [mine, other]),
            ({"task": "work", "owner": ALICE}, [mine]),
            ({"since": datetime.now(UTC) + timedelta(seconds=900)}, [other, theirs]),
            ({"task": "none"}, []),
        ]
        for filters, found in expected:
            for limit in (1, 2, 50):
                ids = await browse(worker, JobStatus.SCHEDULED, limit, **filters)
                assert ids == [job.id for job in found]


async def test_a_filter_examines_a_limited_number_of_jobs(worker, run, work, wait, monkeypatch):
    monkeypatch.setattr(jobs, "MAX_EXAMINED", 4)
    async with run():
        for number in range(10):
            await work.using(delay=600 + number).enqueue()
        rare = await wait.using(delay=1200).enqueue()
        page = await worker.jobs.browse(state=JobStatus.SCHEDULED, task="wait", limit=3)
        assert list(page.jobs) == []
        assert page.after
        assert await browse(worker, JobStatus.SCHEDULED, 3, task="wait") == [rare.id]


async def test_jobs_that_have_ended_are_filtered_and_paged(worker, run, work, wait, gate):
    gate.set()
    async with run():
        with TaskContext.use(actor=ALICE):
            mine = await work.enqueue()
            other = await wait.enqueue()
        theirs = await work.enqueue()
        ended = await reach(worker, JobStatus.COMPLETED, mine, other, theirs)
        starts = [job.at - timedelta(seconds=job.seconds or 0) for job in ended if job.at]
        assert starts == sorted(starts, reverse=True)
        for filters, found in (
            ({"task": "work"}, [mine, theirs]),
            ({"owner": ALICE}, [mine, other]),
            ({"owner": ALICE, "task": "wait"}, [other]),
            ({"since": datetime.now(UTC) - DAY}, [mine, other, theirs]),
            ({"since": datetime.now(UTC) + DAY}, []),
        ):
            ids = await browse(worker, JobStatus.COMPLETED, 1, **filters)
            assert sorted(ids) == sorted(job.id for job in found)
        assert await browse(worker, JobStatus.FAILED) == []


async def test_runs_of_the_same_time_are_listed_once_each(worker, run):
    async with run():
        now = datetime.now(UTC)
        times = [now, *[now - timedelta(seconds=1)] * 7, now - timedelta(seconds=2)]
        documents = [make_run(f"job-{number}", at) for number, at in enumerate(times)]
        await RunModel.get_pymongo_collection().insert_many(documents)
        expected = [f"job-{number}" for number in range(len(times))]
        for limit in (1, 2, 3, 4, 9):
            found = await browse(worker, JobStatus.COMPLETED, limit)
            assert sorted(found) == expected
            assert (found[0], found[-1]) == ("job-0", "job-8")


def make_run(job_id: str, started_at: datetime, **fields: Any) -> dict[str, Any]:
    """Return the document of a run."""
    return {
        "_id": ObjectId(),
        "job_id": job_id,
        "task": "work",
        "attempt": 1,
        "ended_as": "completed",
        "started_at": started_at,
        "seconds": 0.5,
        "correlation_id": job_id,
        "expires_at": started_at + DAY,
        **fields,
    }


@pytest.mark.parametrize("position", ["x", "-1 0", "1", "99999999999999999 0", '{"$gt": 1}'])
async def test_a_position_of_a_stranger_is_refused(worker, run, position):
    async with run():
        with pytest.raises(BadPosition):
            await worker.jobs.browse(state=JobStatus.COMPLETED, after=position)


async def test_a_run_of_an_earlier_release_is_listed(worker, run):
    async with run():
        old = make_run("old", datetime.now(UTC), ended_as="failed", schedule=None, error=None)
        await RunModel.get_pymongo_collection().insert_one(old)
        assert await browse(worker, JobStatus.FAILED) == ["old"]
        assert [kept.sampled for kept in await worker.history.list()] == [1]


async def test_a_forged_record_is_unknown(worker, run, work):
    async with run():
        with TaskContext.use(actor=ALICE):
            job = await work.using(delay=3600).enqueue()
        await write_record(worker, job.id, {"owner": MALLORY})
        (found,) = (await worker.jobs.browse(state=JobStatus.SCHEDULED)).jobs
        assert (found.id, found.state) == (job.id, JobStatus.UNKNOWN)
        assert (found.task, found.owner) == ("", None)
        assert "SECRET_KEY" in (found.error or "")
        for owner in (ALICE, MALLORY):
            assert await browse(worker, JobStatus.SCHEDULED, owner=owner) == []
        assert await worker.jobs.find(job.id) == []
        assert await worker.jobs.get(job.id) is None


async def test_a_job_without_a_record_is_unknown(worker, run, work):
    async with run():
        job = await work.using(delay=3600).enqueue()
        await write_record(worker, job.id, {"state": "lost"})  # type: ignore[typeddict-item]
        (found,) = (await worker.jobs.browse(state=JobStatus.SCHEDULED)).jobs
        assert (found.state, found.task, found.error) == (JobStatus.UNKNOWN, "", NO_RECORD)


async def test_jobs_are_counted_by_state(worker, run, work, broken, wait, gate):
    async with run():
        later = [await work.using(delay=3600).enqueue() for _ in range(2)]
        running_job = await wait.enqueue()
        done, bad = await work.enqueue(), await broken.enqueue()
        await reach(worker, JobStatus.RUNNING, running_job)
        await reach(worker, JobStatus.COMPLETED, done)
        await reach(worker, JobStatus.FAILED, bad)
        counts = await worker.jobs.count()
        assert counts == {
            JobStatus.PENDING: 0,
            JobStatus.SCHEDULED: len(later),
            JobStatus.RUNNING: 1,
            JobStatus.COMPLETED: 1,
            JobStatus.FAILED: 1,
            JobStatus.ABORTED: 0,
        }
        assert await worker.jobs.abort(running_job.id) is JobStatus.ABORTED
        await reach(worker, JobStatus.ABORTED, running_job)
        gate.set()


async def test_a_job_is_found_by_its_id_and_its_correlation_id(worker, run, work, broken, wait):
    async with run():
        with TaskContext.use(correlation_id="request-1"):
            done, bad, live = await work.enqueue(), await broken.enqueue(), await wait.enqueue()
        other = await work.enqueue()
        await reach(worker, JobStatus.COMPLETED, done, other)
        await reach(worker, JobStatus.FAILED, bad)
        await eventually(lambda: has_letter(bad.id), WAIT)
        (found,) = await worker.jobs.find(live.id)
        assert (found.state, found.task) == (JobStatus.RUNNING, "wait")
        together = await worker.jobs.find("request-1")
        # The running job has neither a run nor a dead letter yet.
        assert {job.id: job.state for job in together} == {
            done.id: JobStatus.COMPLETED,
            bad.id: JobStatus.FAILED,
        }
        times = [job.at for job in together if job.at]
        assert times == sorted(times, reverse=True)
        assert len(times) == 2
        assert [job.id for job in await worker.jobs.find(other.id)] == [other.id]


async def test_a_job_is_found_by_the_beginning_of_an_id(worker, run, work, broken):
    async with run():
        with TaskContext.use(correlation_id="0123456789ABCDEF" * 2):
            done = await work.enqueue()
        with TaskContext.use(correlation_id="c0ffee00" + "1" * 24):
            bad = await broken.enqueue()
        chain = await (work | work).enqueue(1)
        await chain.result(WAIT)
        own = await work.using(job_id="import-X-2024").enqueue()
        await reach(worker, JobStatus.COMPLETED, done, own, *chain.stages)
        await reach(worker, JobStatus.FAILED, bad)
        await eventually(lambda: has_letter(bad.id), WAIT)
        letter = await DeadLetterModel.find_one({"job_id": bad.id})
        assert letter

        async def find(text: str) -> set[str]:
            return {job.id for job in await worker.jobs.find(text)}

        for job in (done, bad):
            for text in (job.id, job.id[:8], job.id[:12], job.id[:12] + "…", job.id.upper()):
                assert await find(f"  {text}\t\n") == {job.id}
            assert await find(job.id[:7]) == set()
            assert await find(job.id[1:]) == set()
        assert await find("c0ffee00") == {bad.id}
        assert await find("C0FFEE001") == {bad.id}
        for text in ("01234567", "0123456789ABCDEF", "0123456789ABCDEF" * 2):
            assert await find(text) == {done.id}
        assert await find("0123456789abcdef") == set()  # a person chose capital letters
        for text in (letter.id, letter.id[:8], letter.id.upper()):
            assert await find(text) == {bad.id}
        assert await find(chain.id) == {stage.id for stage in chain.stages}
        assert await find(chain.stages[1].id.upper()) == {chain.stages[1].id}
        assert await find("import-X") == {own.id}
        assert await find("IMPORT-X") == set()


async def test_the_beginning_of_many_ids_finds_some_of_them(worker, run, monkeypatch):
    monkeypatch.setattr(jobs, "MAX_FOUND", 3)
    async with run():
        runs = [make_run(f"import:{number}", datetime.now(UTC)) for number in range(9)]
        collection = RunModel.get_pymongo_collection()
        await collection.insert_many(runs)
        assert len(await worker.jobs.find("import:1")) == 1
        await collection.insert_many(
            [make_run(f"import:10{n}", datetime.now(UTC)) for n in range(9)]
        )
        assert len(await worker.jobs.find("import:10")) == 3


async def has_letter(job_id: str) -> bool:
    return await DeadLetterModel.find_one({"job_id": job_id}) is not None


async def test_a_job_is_found_after_its_record_has_expired(worker, run, work, broken, monkeypatch):
    async with run():
        worker.queue.record_ttl = 0.2
        done, bad = await work.enqueue(), await broken.enqueue()
        await reach(worker, JobStatus.COMPLETED, done)
        await eventually(lambda: has_letter(bad.id), WAIT)

        async def are_gone() -> bool:
            return {await done.status(), await bad.status()} == {JobStatus.UNKNOWN}

        await eventually(are_gone, WAIT)
        (found,) = await worker.jobs.find(done.id)
        assert (found.state, found.task) == (JobStatus.COMPLETED, "work")
        # The history has lost the last run in an outage, so only the dead letter tells the end.
        earlier = datetime.now(UTC) - timedelta(hours=1)
        retried = {"ended_as": "retried", "started_at": earlier}
        await RunModel.find({"job_id": bad.id}).update({"$set": retried})
        (found,) = await worker.jobs.find(bad.id)
        assert (found.state, found.error) == (JobStatus.FAILED, "ValueError: first line")
        await RunModel.find_all().delete()
        (found,) = await worker.jobs.find(bad.id)
        assert (found.state, found.error) == (JobStatus.FAILED, "ValueError: first line")
        assert await worker.jobs.abort(bad.id) is JobStatus.FAILED


@pytest.mark.parametrize(
    "text",
    [
        *["", '{"$gt": ""}', "$where", "a\0b", "\ud800", "\udfff" * 500, "x" * 100_000, "*", "%00"],
        *["." * 8, ".*.*.*.*.*", "^[0-9a-f]{8}", "(a+)+" * 30, "\0" * 8, " " * 9, "…" * 8, "?" * 8],
    ],
)
async def test_text_of_a_stranger_finds_nothing(worker, run, work, text):
    async with run():
        done = await work.enqueue()
        await reach(worker, JobStatus.COMPLETED, done)
        assert await worker.jobs.find(text) == []
        assert await worker.jobs.get(text) is None
        assert await worker.jobs.abort(text) is JobStatus.UNKNOWN


async def test_the_details_of_a_job_that_failed(worker, run, broken):
    async with run():
        job = await broken.enqueue()
        await fail(job)
        await reach(worker, JobStatus.FAILED, job)
        await eventually(lambda: has_letter(job.id), WAIT)
        details = await worker.jobs.get(job.id)
        assert [each.ended_as for each in details.runs] == ["retried", "failed"]
        assert [each.attempt for each in details.runs] == [1, 2]
        assert [letter.attempts for letter in details.dead_letters] == [2]
        assert (details.summary.state, details.record.status) == ("failed", "failed")
        assert details.summary.seconds == details.runs[-1].seconds
        assert details.chain == []


async def test_the_details_of_a_chain(worker, run, work, wait, broken, gate):
    async with run():
        chain = await (work | wait | work).enqueue(1)
        second = chain.stages[1]
        await reach(worker, JobStatus.RUNNING, second)
        await reach(worker, JobStatus.COMPLETED, chain.stages[0])
        for stage in chain.stages:
            details = await worker.jobs.get(stage.id)
            assert [job.id for job in details.chain] == [each.id for each in chain.stages]
            assert [job.state for job in details.chain] == ["completed", "running", "pending"]
            assert [job.task for job in details.chain] == ["work", "wait", "work"]
        gate.set()
        assert await chain.result(WAIT) == 1


async def test_ids_like_those_of_stages_are_no_chain(worker, run, work):
    async with run():
        job = await work.using(job_id="import:0").enqueue()
        await (await work.using(job_id="import:1").enqueue()).result(WAIT)
        await job.result(WAIT)
        details = await worker.jobs.get(job.id)
        assert details.chain == []


async def test_an_abort_says_what_happened(worker, run, work, wait, broken):
    async with run():
        later = await work.using(delay=3600).enqueue()
        assert await worker.jobs.abort(later.id) is JobStatus.ABORTED
        assert await worker.jobs.abort(later.id) is JobStatus.ABORTED
        live = await wait.enqueue()
        await reach(worker, JobStatus.RUNNING, live)
        assert await worker.jobs.abort(live.id) is JobStatus.ABORTED
        done, bad = await work.enqueue(5), await broken.enqueue()
        await fail(bad)
        await done.result(WAIT)
        assert await worker.jobs.abort(done.id) is JobStatus.COMPLETED
        assert await worker.jobs.abort(bad.id) is JobStatus.FAILED
        assert await done.result(WAIT) == 5
        assert await worker.jobs.abort("none") is JobStatus.UNKNOWN


@pytest.mark.parametrize("is_stage", [False, True])
async def test_an_aborted_job_leaves_the_queue_at_once(worker, run, work, is_stage):
    async with run():
        before = datetime.now(UTC)
        later = await work.using(delay=3600).enqueue()
        if is_stage:  # its message goes to a worker, because it names the later stages
            await worker.queue.abort(later.id)
            later = (await (stumbling(worker) | work).enqueue()).stages[0]
            await eventually(lambda: has_state(later, JobStatus.SCHEDULED), WAIT)
        assert await worker.jobs.abort(later.id) is JobStatus.ABORTED
        await eventually(lambda: is_empty(worker), WAIT if is_stage else 0.1)
        found = (await worker.jobs.browse(state=JobStatus.ABORTED)).jobs[0]
        assert (found.id, found.task) == (later.id, "stumbling" if is_stage else "work")
        details = await worker.jobs.get(later.id)
        assert details
        assert details.runs[-1].ended_as == "aborted"
        for job in (found, details.summary):
            assert job.at
            assert before - timedelta(seconds=1) < job.at < datetime.now(UTC)
        await fail(later)


def stumbling(worker: Worker) -> Task[[], int]:
    """Return a task that fails, and is tried again after an hour."""

    @worker.task(retry_delay=3600, jitter=False)
    async def stumbling() -> int:
        raise ValueError("no")

    return stumbling


async def has_state(job: Job[Any], state: JobStatus) -> bool:
    return await job.status() is state


async def is_empty(worker: Worker) -> bool:
    stats = await worker.queue.engine.stats()
    return not stats.pending and not stats.running and not stats.scheduled


async def test_an_aborted_job_that_is_pending_leaves_the_queue_at_once(
    worker, run, work, wait, gate, engine_settings
):
    engine_settings.task_concurrency = 1
    async with run():
        live = await wait.enqueue()
        await reach(worker, JobStatus.RUNNING, live)
        jobs = await work.enqueue_many([[number] for number in range(20)])
        urgent = await work.using(priority="high").enqueue()
        gone, kept = [*jobs[5:10], urgent], [*jobs[:5], *jobs[10:]]
        assert await asyncio.gather(*(worker.jobs.abort(job.id) for job in gone)) == ["aborted"] * 6
        counts = await worker.jobs.count()
        assert counts[JobStatus.PENDING] == len(kept)
        assert counts[JobStatus.ABORTED] == len(gone)
        assert await browse(worker, JobStatus.PENDING) == [job.id for job in kept]
        gate.set()
        await asyncio.gather(*(job.result(WAIT) for job in kept))
        await reach(worker, JobStatus.COMPLETED, live, *kept)
        await reach(worker, JobStatus.ABORTED, *gone)
        assert await RunModel.count() == len(jobs) + 2
        again = await work.using(job_id="again", delay=3600).enqueue()
        assert await again.abort()
        again = await work.using(job_id="again").enqueue()
        assert await again.status() is JobStatus.ABORTED


async def test_a_job_that_is_aborted_while_it_starts_ends_once(worker, run):
    ran = []

    @worker.task
    async def note(number: int) -> None:
        ran.append(number)
        await asyncio.sleep(0)

    async with run():

        async def abort_soon(number: int) -> JobStatus:
            job = await note.enqueue(number)
            for _ in range(number % 7):
                await asyncio.sleep(0)
            await job.abort(WAIT)
            return await job.status()

        states = [await abort_soon(number) for number in range(100)]
        assert set(states) <= {JobStatus.COMPLETED, JobStatus.ABORTED}
        await eventually(lambda: is_empty(worker), WAIT)
        await eventually(lambda: has_runs(100), WAIT)
        completed = [number for number, state in enumerate(states) if state == "completed"]
        assert set(completed) <= set(ran)
        assert len(ran) == len(set(ran))
        assert await RunModel.find({"ended_as": "completed"}).count() == len(completed)


async def has_runs(count: int) -> bool:
    return await RunModel.count() == count


async def test_a_job_that_cannot_be_cancelled_is_still_running(worker, run):
    opened = threading.Event()

    @worker.task
    def block() -> None:
        opened.wait(WAIT)

    async with run():
        job = await block.enqueue()
        try:
            await reach(worker, JobStatus.RUNNING, job)
            assert await worker.jobs.abort(job.id, timeout=0.1) is JobStatus.RUNNING
        finally:
            opened.set()
        await job.wait(WAIT)


@pytest.mark.needs(Promise.MONGODB_OUTAGE)
async def test_an_outage_of_mongodb_loses_no_failure(
    worker, engine_settings, mongod, work, broken, wait, monkeypatch
):
    start, stop = mongod
    async with running(worker, engine_settings):
        later = await work.using(delay=3600).enqueue()
        live = await wait.enqueue()
        await reach(worker, JobStatus.RUNNING, live)
        await asyncio.to_thread(stop)
        done, bad = await work.enqueue(), await broken.enqueue()
        await fail(bad)
        await done.result(WAIT)
        assert await browse(worker, JobStatus.SCHEDULED) == [later.id]
        assert await browse(worker, JobStatus.RUNNING) == [live.id]
        assert await worker.jobs.abort(later.id) is JobStatus.ABORTED
        with pytest.raises(PyMongoError):
            await worker.jobs.browse(state=JobStatus.COMPLETED)
        with pytest.raises(PyMongoError):
            await worker.jobs.find(done.id)
        await asyncio.to_thread(start)
        await reach(worker, JobStatus.FAILED, bad)
        await reach(worker, JobStatus.COMPLETED, done)
        await reach(worker, JobStatus.ABORTED, later)

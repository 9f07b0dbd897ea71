"""The contract: what every engine of this service must do, each on its real server."""

import asyncio
import threading
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from uuid import UUID

import pytest
from pydantic import BaseModel, ConfigDict, SecretStr

from core.context import TaskContext
from core.tasks import (
    InvalidArguments,
    InvalidTask,
    JobFailed,
    JobStatus,
    PermanentError,
    QueueUnavailable,
    TransientError,
    Worker,
    current_job,
    executor,
)
from core.tasks.engine import Envelope
from core.tests.running import running

WAIT = 10


async def test_a_job_runs_and_returns_its_value(worker, run):
    @worker.task
    async def add(left: int, right: int = 2) -> int:
        return left + right

    async with run():
        job = await add.enqueue(40)
        assert await job.result(WAIT) == 42
        assert await job.status() is JobStatus.COMPLETED
        assert await worker.job(job.id).result(WAIT) == 42


async def test_arguments_and_results_come_back_as_themselves(worker, run):
    seen = []

    @worker.task
    async def echo(
        when: datetime, key: UUID, price: Decimal, names: list[str] | None = None
    ) -> datetime:
        seen.append((when, key, price, names))
        return when

    when, key = datetime(2027, 1, 1, 12, tzinfo=UTC), UUID(int=7)
    async with run():
        job = await echo.enqueue(when, key=key, price=Decimal("1.10"))
        assert await job.result(WAIT) == when
    assert seen == [(when, key, Decimal("1.10"), None)]


async def test_floats_bytes_and_strict_models_travel(worker, run):
    class Strict(BaseModel):
        model_config = ConfigDict(strict=True)
        when: datetime

    seen = []

    @worker.task
    async def echo(number: float, data: bytes, model: Strict) -> None:
        seen.append((number, data, model))

    sent = (float("-inf"), b"\xff\x00", Strict(when=datetime(2027, 1, 1, tzinfo=UTC)))
    async with run():
        await (await echo.enqueue(*sent)).result(WAIT)
    assert seen == [sent]


async def test_a_plain_function_runs_in_a_thread(worker, run):
    @worker.task
    def blocking(text: str) -> str:
        with pytest.raises(RuntimeError):
            asyncio.get_running_loop()
        return text.upper()

    async with run():
        assert await (await blocking.enqueue("ok")).result(WAIT) == "OK"


async def test_wrong_arguments_fail_at_once_and_name_the_parameter(worker, run):
    @worker.task
    async def greet(name: str, times: int) -> None: ...

    async with run():
        with pytest.raises(InvalidArguments, match=r"greet: parameter times: .*integer"):
            await greet.enqueue("Ada", "often")
        with pytest.raises(InvalidArguments, match="greet: missing a required argument: 'times'"):
            await greet.enqueue("Ada")
        with pytest.raises(
            InvalidArguments, match="greet: got an unexpected keyword argument 'loud'"
        ):
            await greet.enqueue("Ada", 1, loud=True)
        with pytest.raises(InvalidArguments, match="greet: the arguments cannot be kept as JSON"):
            await greet.enqueue("\ud800", 1)


async def test_a_failed_attempt_is_tried_again(worker, run):
    attempts = []

    @worker.task(max_retries=2, retry_delay=0.01)
    async def flaky() -> str:
        attempts.append((current_job().attempt, current_job().id))
        if len(attempts) < 3:
            raise TransientError("not yet")
        return "done"

    async with run():
        job = await flaky.enqueue()
        assert await job.result(WAIT) == "done"
    assert attempts == [(1, job.id), (2, job.id), (3, job.id)]


async def test_when_retries_are_used_up_the_original_error_is_told(worker, run):
    @worker.task(max_retries=1, retry_delay=0.01)
    async def broken() -> None:
        raise ValueError("the disk is full")

    async with run():
        job = await broken.enqueue()
        with pytest.raises(JobFailed) as failure:
            await job.result(WAIT)
        assert await job.status() is JobStatus.FAILED
    assert (failure.value.type, failure.value.message) == ("ValueError", "the disk is full")
    assert "raise ValueError" in failure.value.traceback


async def test_a_permanent_error_is_not_tried_again(worker, run):
    calls = []

    @worker.task(max_retries=5)
    async def hopeless() -> None:
        calls.append(1)
        raise PermanentError("no such order")

    async with run():
        with pytest.raises(JobFailed, match="PermanentError: no such order"):
            await (await hopeless.enqueue()).result(WAIT)
    assert calls == [1]


async def test_a_timeout_ends_the_attempt(worker, run):
    @worker.task(max_retries=0, timeout=0.05)
    async def slow() -> None:
        await asyncio.sleep(60)

    async with run():
        with pytest.raises(JobFailed, match="TimeoutError"):
            await (await slow.enqueue()).result(WAIT)


async def test_a_result_that_is_not_json_fails_the_job_and_not_the_worker(worker, run):
    @worker.task
    async def odd() -> object:
        return object()

    @worker.task
    async def fine() -> int:
        return 1

    async with run():
        with pytest.raises(JobFailed, match="cannot be kept as JSON"):
            await (await odd.enqueue()).result(WAIT)
        assert await (await fine.enqueue()).result(WAIT) == 1


async def test_a_job_that_cancels_or_exits_by_itself_fails_as_any_other(worker, run):
    @worker.task(max_retries=0)
    async def cancels() -> None:
        subtask = asyncio.create_task(asyncio.sleep(60))
        subtask.cancel()
        await subtask

    @worker.task(max_retries=0)
    async def exits() -> None:
        raise SystemExit(3)

    @worker.task(max_retries=0)
    async def unspeakable() -> None:
        class Odd(Exception):
            def __str__(self) -> str:
                raise ValueError

        raise Odd

    @worker.task
    async def fine() -> int:
        return 1

    async with run():
        for task, error in (
            (cancels, "CancelledError"),
            (exits, "SystemExit: 3"),
            (unspeakable, "Odd: "),
        ):
            with pytest.raises(JobFailed, match=error):
                await (await task.enqueue()).result(WAIT)
        assert await (await fine.enqueue()).result(WAIT) == 1


async def test_jobs_outlive_the_process_where_the_engine_promises_it(worker, engine_settings):
    @worker.task
    async def later() -> int:
        return 1

    async with worker.open(engine_settings):
        durable = worker.queue.engine.durable
        job_id = (await later.using(delay=0.5).enqueue()).id
    async with running(worker, engine_settings):
        if durable:
            assert await worker.job(job_id).result(WAIT) == 1
        else:
            assert await worker.job(job_id).status() is JobStatus.UNKNOWN


async def test_stopping_does_not_wait_for_longer_than_the_grace_period(worker, engine_settings):
    engine_settings.task_grace_period = 0
    engine_settings.task_concurrency = 1
    started = asyncio.Event()
    cut_off = threading.Event()

    @worker.task
    async def endless() -> None:
        started.set()
        await asyncio.sleep(60)

    @worker.task
    def endless_thread() -> None:
        loop.call_soon_threadsafe(started.set)
        cut_off.wait(60)

    loop = asyncio.get_running_loop()
    for task in (endless, endless_thread):
        started.clear()
        async with asyncio.timeout(WAIT):
            async with running(worker, engine_settings):
                await task.enqueue()
                await task.enqueue()  # waits for the only slot
                await started.wait()
        engine_settings.queue_name += "-2"
    cut_off.set()


async def test_many_jobs_are_enqueued_at_once(worker, run):
    @worker.task
    async def double(value: int, plus: int = 0) -> int:
        return 2 * value + plus

    async with run():
        jobs = await double.enqueue_many(
            [[1], (2, 5), {"value": 3, "plus": 1}] + [[value] for value in range(600)]
        )
        assert [await job.result(WAIT) for job in jobs[:3]] == [2, 9, 7]
        assert await jobs[-1].result(WAIT) == 2 * 599
        with pytest.raises(InvalidArguments, match="double: parameter value"):
            await double.enqueue_many([[1], ["many"]])


async def test_jobs_with_one_idempotency_key_are_one_job(worker, run):
    charged = []

    @worker.task(idempotency_key=lambda order, amount: f"charge {order}")
    async def charge(order: str, amount: int) -> int:
        charged.append(amount)
        return amount

    async with run():
        first, second = await charge.enqueue("o-1", 1), await charge.enqueue(order="o-1", amount=2)
        other = await charge.enqueue("o-2", 3)
        assert await first.result(WAIT) == await second.result(WAIT) == 1
        assert await other.result(WAIT) == 3
        third = await charge.enqueue("o-1", 4)
        assert third.id == first.id == second.id
        assert await third.result(WAIT) == 1
    assert sorted(charged) == [1, 3]


async def test_unique_jobs_are_one_job_until_it_has_ended(worker, run):
    gate = asyncio.Event()
    runs = []

    @worker.task(unique=True, max_retries=1, retry_delay=0.01)
    async def rebuild(index: str) -> str:
        runs.append(index)
        await gate.wait()
        if runs == ["a"]:
            raise TransientError("once more")
        return index

    async with run():
        first = await rebuild.enqueue("a")
        assert (await rebuild.enqueue(index="a")).id == first.id  # it waits or runs
        assert (await rebuild.using(job_id="mine").enqueue("a")).id == first.id
        gate.set()
        await first.result(WAIT)
        assert runs == ["a", "a"]
        again, *others = await rebuild.enqueue_many([["a"], ["b"], ["b"]])
        assert again.id != first.id
        assert len({job.id for job in others}) == 1
        await asyncio.gather(again.result(WAIT), *(job.result(WAIT) for job in others))
        assert sorted(runs) == ["a", "a", "a", "b"]
        mine = await rebuild.using(job_id="mine").enqueue("a")
        assert mine.id == "mine"
        assert await mine.result(WAIT) == "a"


async def test_a_unique_job_whose_message_got_lost_is_enqueued_by_the_next_one(
    worker, run, monkeypatch
):
    """A process that ends between holding the key and publishing must not block the others for good."""

    @worker.task(unique=True)
    async def rebuild() -> str:
        return "done"

    async with run():

        async def die(*_) -> None:
            raise RuntimeError("this process ends here")

        with monkeypatch.context() as patch:
            patch.setattr(worker.queue.engine, "publish", die)
            with pytest.raises(RuntimeError):
                await rebuild.enqueue()
        assert await (await rebuild.enqueue()).result(WAIT) == "done"


async def test_a_job_that_no_worker_takes_in_time_expires(worker, run, engine_settings):
    engine_settings.task_concurrency = 1
    ran = []

    @worker.task
    async def blocking() -> None:
        await asyncio.sleep(1.5)

    @worker.task(expires=1)
    async def urgent(name: str) -> None:
        ran.append(name)

    async with run():
        await blocking.enqueue()
        await asyncio.sleep(0.1)
        late = await urgent.enqueue("late")
        with pytest.raises(JobFailed, match="JobExpired: no worker was free"):
            await late.result(WAIT)
        # Counted from when it is due.
        await (await urgent.using(delay=1.1).enqueue("delayed")).result(WAIT)
    assert ran == ["delayed"]


async def test_jobs_can_be_aborted_in_each_state(worker, run, engine_settings):
    engine_settings.task_concurrency = 1
    started, ended = asyncio.Event(), []

    @worker.task
    async def long(name: str) -> None:
        started.set()
        try:
            await asyncio.sleep(60)
        finally:
            ended.append(name)

    async with run():
        running_job = await long.enqueue("running")
        await asyncio.wait_for(started.wait(), WAIT)
        pending, scheduled = (
            await long.enqueue("pending"),
            await long.using(delay=60).enqueue("scheduled"),
        )
        for job in (pending, scheduled, running_job):
            assert await job.abort(WAIT)
            assert await job.status() is JobStatus.ABORTED
            with pytest.raises(JobFailed, match="aborted"):
                await job.result(WAIT)
        done = await worker.task(name="fine")(fine).enqueue()
        assert await done.result(WAIT) == 1
        assert not await done.abort(WAIT)  # too late
        assert not await worker.job("nobody").abort(0.1)
    assert ended == ["running"]


async def fine() -> int:
    return 1


async def test_a_task_tells_how_far_it_is(worker, run, monkeypatch):
    monkeypatch.setattr("core.tasks.current.PROGRESS_SECONDS", 60)
    go_on = asyncio.Event()

    @worker.task
    async def counting() -> None:
        await current_job().progress(1, 3, "one")
        await current_job().progress(2, 3, "dropped: too soon")
        await go_on.wait()
        await current_job().progress(3, 3, "all")

    async with run():
        job = await counting.enqueue()
        async with asyncio.timeout(WAIT):
            while (progress := await job.progress()) is None:
                await asyncio.sleep(0.01)
        assert (progress.done, progress.total, progress.message) == (1, 3, "one")
        go_on.set()
        await job.result(WAIT)
        progress = await job.progress()
        assert progress
        assert progress.message == "all"


async def test_a_job_waits_for_a_worker_that_knows_its_task(
    worker, run, engine_settings, monkeypatch
):
    """A rolling deploy: the old worker meets a job of the new code."""
    monkeypatch.setattr(executor, "UNKNOWN_SECONDS", 0.3)
    engine_settings.task_unknown_period = 60.0
    producer = Worker()

    @producer.task
    async def new() -> str:
        return "known now"

    async with run():
        new._owner = worker
        job = await new.enqueue()
        async with asyncio.timeout(WAIT):
            while not (await job.record()).unknown_since:
                await asyncio.sleep(0.01)
        assert await job.status() is not JobStatus.FAILED
        worker.tasks["new"] = new  # the newer worker
        assert await job.result(WAIT) == "known now"
        assert (await job.record()).attempt == 1


async def test_a_chain_passes_each_result_on(worker, run):
    seen = []

    @worker.task
    async def parse(text: str) -> int:
        return int(text)

    @worker.task
    async def double(value: int) -> int:
        seen.append(TaskContext.get_correlation_id())
        return 2 * value

    @worker.task
    async def show(value: int, unit: str = "m") -> str:
        return f"{value} {unit}"

    async with run():
        with TaskContext.use("chain-1", actor="user-1"):
            chain = await (parse | double | show).enqueue("21")
        assert await chain.result(WAIT) == "42 m"
        assert await chain.statuses() == [JobStatus.COMPLETED] * 3
        assert await chain.status() is JobStatus.COMPLETED
        assert (await chain.stages[2].record()).owner == "user-1"
        with pytest.raises(InvalidArguments):
            await (parse | double).enqueue(1.5)
    assert seen == ["chain-1"]


async def test_a_failed_stage_stops_the_chain_which_goes_on_from_there(worker, run):
    calls, broken = [], True

    @worker.task
    async def first(value: int) -> int:
        calls.append("first")
        return value + 1

    @worker.task(max_retries=0)
    async def second(value: int) -> int:
        if broken:
            raise ValueError("not now")
        return value * 10

    @worker.task
    async def third(value: int) -> int:
        calls.append(f"third {value}")
        return value

    async with run():
        chain = await (first | second | third).enqueue(1)
        with pytest.raises(JobFailed, match="ValueError: not now"):
            await chain.result(WAIT)
        assert await chain.statuses() == [JobStatus.COMPLETED, JobStatus.FAILED, JobStatus.ABORTED]
        assert await chain.status() is JobStatus.FAILED
        assert (await chain.stages[2].record()).error["message"] == "stage 1 (second) failed"

        broken = False
        async with asyncio.timeout(WAIT):
            while not (letters := await worker.dead_letters.list()):
                await asyncio.sleep(0.02)
        job_id = await worker.dead_letters.replay(letters[0].id)
        assert await worker.job(job_id).result(WAIT) == 20
        assert await worker.job(f"{job_id}:2").result(WAIT) == 20
    assert calls == ["first", "third 20"]


async def test_a_stage_that_runs_twice_starts_the_next_one_once(worker, run, monkeypatch):
    """The queue's server is away just when a stage has enqueued the next one, and is to be marked as completed."""
    monkeypatch.setattr(executor, "REDELIVERY_SECONDS", 0.05)
    calls = []

    @worker.task
    async def first() -> int:
        calls.append("first")
        return 1

    @worker.task
    async def second(value: int) -> int:
        calls.append("second")
        return value

    async with run():
        write = worker.queue.engine.records.write

        async def lose_the_first(job_id, fields, ttl):
            if (
                fields.get("state") == "completed"
                and job_id.endswith(":0")
                and calls.count("first") == 1
            ):
                raise QueueUnavailable("the queue's server cannot be reached")
            await write(job_id, fields, ttl)

        monkeypatch.setattr(worker.queue.engine.records, "write", lose_the_first)
        chain = await (first | second).enqueue()
        await chain.stages[0].result(WAIT)
        assert await chain.result(WAIT) == 1
        await asyncio.sleep(0.2)
    assert sorted(calls) == ["first", "first", "second"]


async def test_a_result_that_does_not_fit_the_next_stage_fails_its_own(worker, run):
    @worker.task
    async def text() -> str:
        return "many"

    @worker.task
    async def number(value: int) -> int:
        return value

    async with run():
        chain = await (text | number).enqueue()
        with pytest.raises(
            JobFailed,
            match="the result of text does not fit the next stage: task number: parameter",
        ):
            await chain.result(WAIT)
        assert await chain.statuses() == [JobStatus.FAILED, JobStatus.ABORTED]


async def test_a_chain_can_be_aborted(worker, run):
    started = asyncio.Event()

    @worker.task
    async def first() -> int:
        started.set()
        await asyncio.sleep(60)
        return 1

    @worker.task
    async def second(value: int) -> int:
        return value

    async with run():
        chain = await (first | second).enqueue()
        await asyncio.wait_for(started.wait(), WAIT)
        assert await chain.abort(WAIT)
        assert await chain.statuses() == [JobStatus.ABORTED] * 2


async def test_a_delayed_job_waits(worker, run):
    @worker.task
    async def later() -> float:
        return datetime.now(UTC).timestamp()

    async with run():
        due = datetime.now(UTC) + timedelta(seconds=0.6)
        jobs = [await later.enqueue(scheduled_at=due), await later.using(delay=0.6).enqueue()]
        assert [await job.status() for job in jobs] == [JobStatus.SCHEDULED] * 2
        assert (await worker.queue.engine.stats()).scheduled == 2
        for job in jobs:
            assert await job.result(WAIT) >= due.timestamp() - 0.01


async def test_the_figures_of_the_queue(worker, run):
    go = asyncio.Event()

    @worker.task
    async def wait() -> None:
        await go.wait()

    async def figures() -> tuple[int, int, int]:
        stats = await worker.queue.engine.stats()
        return stats.pending, stats.running, stats.scheduled

    async with run():
        jobs = [await wait.enqueue(), await wait.enqueue(), await wait.using(delay=1).enqueue()]
        while await figures() != (0, 2, 1):
            await asyncio.sleep(0.02)
        go.set()
        await asyncio.gather(*(job.result(WAIT) for job in jobs))
        while await figures() != (0, 0, 0):
            await asyncio.sleep(0.02)


async def test_an_id_of_ones_own_runs_once_also_after_it_ended(worker, run):
    calls = []

    @worker.task
    async def once(value: int) -> int:
        calls.append(value)
        return value

    async with run():
        first = await once.using(job_id="invoice:7").enqueue(1)
        second = await once.using(job_id="invoice:7").enqueue(2)
        assert first.id == second.id == "invoice:7"
        assert await first.result(WAIT) == 1
        third = await once.using(job_id="invoice:7").enqueue(3)
        assert await third.result(WAIT) == 1
        await asyncio.sleep(0.1)
    assert calls == [1]


async def test_high_priority_goes_first(worker, run, engine_settings):
    order = []

    @worker.task
    async def note(name: str) -> None:
        order.append(name)

    engine_settings.task_concurrency = 1
    async with worker.open(engine_settings):
        # Enqueued together, before a worker takes the first one.
        priorities = ("low", "normal", "high")
        jobs = await asyncio.gather(
            *(note.using(priority=priority).enqueue(priority) for priority in priorities)
        )
        stop = asyncio.Event()
        consumer = None if worker.queue.engine.in_process else asyncio.create_task(worker.run(stop))
        await asyncio.gather(*(job.result(WAIT) for job in jobs))
        stop.set()
        if consumer:
            await consumer
    assert order == ["high", "normal", "low"]


async def test_correlation_id_and_owner_reach_the_job_and_its_children(worker, run):
    seen = []

    @worker.task
    async def child() -> None:
        seen.append((TaskContext.get_correlation_id(), TaskContext.get_actor()))

    @worker.task
    async def parent() -> str:
        return (await child.enqueue()).id

    async with run():
        with TaskContext.use("request-1", actor="user-1"):
            job = await parent.enqueue()
        child_id = await job.result(WAIT)
        await worker.job(child_id).result(WAIT)
        assert (await worker.job(child_id).record()).owner == "user-1"
    assert seen == [("request-1", "user-1")]
    assert TaskContext.get_correlation_id() is None


async def test_a_task_that_is_not_registered_is_reported_by_name(worker, run):
    producer = Worker()

    @producer.task
    async def forgotten() -> None: ...

    async with run():
        forgotten._owner = (
            worker  # enqueued by a process that knows the task, run by one that does not
        )
        with pytest.raises(JobFailed, match="no task named forgotten is registered"):
            await (await forgotten.enqueue()).result(WAIT)


async def test_a_forged_message_is_refused(worker, run):
    ran = []

    @worker.task
    async def harmless(value: int) -> None:
        ran.append(value)

    async with run():
        engine = worker.queue.engine
        genuine = await harmless.enqueue(1)
        await genuine.result(WAIT)
        for number, body in enumerate([b"", b"{}", b"00.{}", "ü.ü".encode(), b"a" * 70_000]):
            await engine.publish([Envelope(f"forged-{number}", body, {"state": JobStatus.PENDING})])
            with pytest.raises(JobFailed, match="signature is not ours"):
                await worker.job(f"forged-{number}").result(WAIT)
    assert ran == [1]


async def test_many_waiters_are_all_answered(worker, run):
    @worker.task
    async def number(value: int) -> int:
        return value

    async with run():
        jobs = await asyncio.gather(*(number.enqueue(value) for value in range(500)))
        assert await asyncio.gather(*(job.result(WAIT) for job in jobs)) == list(range(500))


async def test_waiting_for_nothing_ends_in_time(worker, run):
    async with run():
        with pytest.raises(TimeoutError, match="still unknown"):
            await worker.job("nobody").result(0.1)
        assert await worker.job("nobody").status() is JobStatus.UNKNOWN


async def test_a_running_job_is_finished_when_the_worker_stops(worker, run):
    started = asyncio.Event()
    finished = []

    @worker.task
    async def steady() -> None:
        started.set()
        await asyncio.sleep(0.3)
        finished.append(1)

    async with run():
        await steady.enqueue()
        await asyncio.wait_for(started.wait(), WAIT)
    assert finished == [1]


async def test_tasks_share_what_the_lifespan_opened(worker, run):
    events = []

    @worker.lifespan
    @asynccontextmanager
    async def open_search(context) -> AsyncIterator[None]:
        context.search = "open"
        yield
        events.append("closed")

    @worker.task
    async def search() -> str:
        assert worker.context.http_client is not None
        return worker.context.search

    async with run():
        assert await (await search.enqueue()).result(WAIT) == "open"
        assert await search() == "open"
    assert events == ["closed"]
    with pytest.raises(RuntimeError, match="no queue is open"):
        _ = worker.context


async def test_what_cannot_be_a_task_is_refused_at_the_start(worker, engine_settings):
    @worker.task
    async def fine() -> None: ...

    with pytest.raises(InvalidTask, match="two tasks are named fine"):
        worker.task(name="fine")(fine.function)

    @worker.task
    async def anything(*values: int) -> None: ...

    with pytest.raises(InvalidTask, match="name each parameter"):
        async with worker.open(engine_settings):
            pass

    del worker.tasks["anything"]

    @worker.task
    async def secret(password: SecretStr) -> None: ...

    with pytest.raises(InvalidTask, match="would arrive as asterisks"):
        async with worker.open(engine_settings):
            pass


async def test_bad_options_are_refused(worker, run):
    @worker.task
    async def plain() -> None: ...

    refused: list[Callable[[], Awaitable[object]]] = [
        lambda: plain.using(priority="urgent").enqueue(),
        lambda: plain.using(job_id="a b").enqueue(),
        lambda: plain.using(delay=1, run_at=datetime.now()).enqueue(),
        lambda: plain.enqueue(scheduled_at="tomorrow"),
    ]
    async with run():
        for attempt in refused:
            with pytest.raises(InvalidArguments, match="task plain: "):
                await attempt()
    with pytest.raises(InvalidArguments, match="priority is one of low, normal, high"):
        worker.task(name="other", priority="urgent")(plain.function)


async def test_stopping_while_jobs_fail_for_good_ends(worker, engine_settings):
    """Nothing may swallow the cancellation of what runs beside the jobs."""

    @worker.task(max_retries=0)
    async def broken() -> None:
        raise ValueError("no")

    for _ in range(5):
        async with asyncio.timeout(WAIT), running(worker, engine_settings):
            jobs = await broken.enqueue_many([[]] * 5)
            await jobs[0].wait(WAIT)


async def test_a_result_with_half_a_character_is_kept(worker, run):
    @worker.task
    async def odd() -> str:
        return "a\ud800"

    @worker.task
    async def fine() -> str:
        return "b"

    async with run():
        jobs = await odd.enqueue(), await fine.enqueue()
        assert [await job.result(WAIT) for job in jobs] == ["a\ud800", "b"]


async def test_what_has_ended_stays_as_it_is(worker, run):
    """As where a worker that was taken for dead comes late."""

    @worker.task
    async def fine() -> str:
        return "done"

    async with run():
        job = await fine.enqueue()
        await job.result(WAIT)
        records = worker.queue.engine.records
        await records.write(job.id, {"state": JobStatus.PENDING, "attempt": 2}, None)
        await records.stash(job.id, {"state": JobStatus.FAILED}, 60, {"id": "letter"})
        assert await job.result(WAIT) == "done"
        assert await records.stashed() == []

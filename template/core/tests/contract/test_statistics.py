"""Statistics: each worker stores the runs of a minute by task, and MongoDB adds them up."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from pymongo import AsyncMongoClient
from pymongo.errors import AutoReconnect

from core.entry import Service, open_service
from core.models import MinuteModel
from core.tasks import JobFailed, RetryAfter, TaskFigures, minutes
from core.tasks.metrics import BUCKETS
from core.tasks.minutes import MinuteCounts
from core.testing import empty
from core.tests.running import WAIT, consuming

HOUR = timedelta(hours=1)
MINUTE = timedelta(minutes=1)
NOON = datetime.now(UTC).replace(hour=12, minute=0, second=0, microsecond=0) - timedelta(days=2)


class Clock:
    """A clock that stands still until a test sets it."""

    def __init__(self) -> None:
        self.now = NOON

    def time(self) -> float:
        return self.now.timestamp()


@pytest.fixture
def clock(monkeypatch) -> Clock:
    """The clock by which minutes end."""
    clock = Clock()
    monkeypatch.setattr(minutes, "time", clock)
    return clock


async def store(counts: MinuteCounts, clock: Clock, start: datetime, *tasks: str) -> None:
    """Store a minute in which a run of each of these tasks completed."""
    clock.now = start
    await counts.write()
    for task in tasks:
        counts.note_end(task, "completed", 1)
    clock.now = start + MINUTE
    await counts.write()


async def test_runs_are_counted_by_task_and_by_how_they_ended(worker, run):
    @worker.task(max_retries=1, retry_delay=0.01)
    async def broken() -> None:
        raise ValueError("no")

    @worker.task
    async def fine() -> None: ...

    @worker.task
    async def late() -> None:
        if not tried:
            tried.append(1)
            raise RetryAfter(0.01)

    tried: list[int] = []
    started = datetime.now(UTC)
    async with run():
        with pytest.raises(JobFailed):
            await (await broken.enqueue()).result(WAIT)
        for job in await fine.enqueue_many([[], [], []]):
            await job.result(WAIT)
        await (await late.enqueue()).result(WAIT)
        await worker._opened.minutes.write(is_last=True)
        (period,) = await worker.statistics.read(started)
        assert set(period.tasks) == {"broken", "fine", "late"}
        figures = period.tasks["broken"]
        assert (figures.retried, figures.failed, figures.completed) == (1, 1, 0)
        assert (sum(figures.durations), sum(figures.waits)) == (2, 1)
        assert (period.tasks["late"].retried, period.tasks["late"].completed) == (1, 1)
        figures = period.tasks["fine"]
        assert (figures.runs, figures.completed) == (3, 3)
        assert (sum(figures.durations), sum(figures.waits)) == (3, 3)
        assert (period.total.task, period.total.runs) == (None, 7)
        (period,) = await worker.statistics.read(started, task="fine")
        assert list(period.tasks) == ["fine"]
        assert period.total.runs == 3


async def test_a_worker_that_stops_stores_its_last_minute(worker, engine_settings):
    @worker.task
    async def fine() -> None: ...

    url, name = str(engine_settings.mongodb_url), engine_settings.mongodb_database
    async with AsyncMongoClient[dict[str, Any]](url) as client:
        stored = client[name]["job_minutes"]
        async with open_service(Service([], [], worker), engine_settings), consuming(worker):
            job = await fine.enqueue()
            await job.result(WAIT)
            worker_name = worker.queue.engine.name
        try:
            (minute,) = await stored.find({"minutes": 1}).to_list()
            (row,) = minute["tasks"]
            assert (row["task"], row["completed"]) == ("fine", 1)
            assert minute["worker"] == worker_name
        finally:
            await empty(engine_settings)


async def test_periods_of_several_workers_are_added_up(worker, run, clock):
    async with run():
        first, second = MinuteCounts("first"), MinuteCounts("second")
        await store(first, clock, NOON, "one", "two")
        await store(first, clock, NOON + 3 * MINUTE, "one")
        await store(second, clock, NOON + 3 * MINUTE, "one")
        await store(second, clock, NOON + 2 * HOUR, "one")
        # The clock of a worker may be wrong, or may be set back.
        await store(first, clock, NOON, "two")

        async def count(*arguments, **options) -> list[dict[str, int]]:
            periods = await worker.statistics.read(*arguments, **options)
            return [
                {name: figures.runs for name, figures in period.tasks.items()} for period in periods
            ]

        end = NOON + 2 * HOUR + 2 * MINUTE
        assert await count(NOON, end) == [{"one": 4, "two": 2}]
        hours = [{"one": 3, "two": 2}, {}, {"one": 1}]
        assert await count(NOON, end, HOUR) == hours
        assert await count(NOON + MINUTE, end, HOUR) == hours
        assert await count(NOON, end, 3 * HOUR) == [{"one": 4, "two": 2}]
        some = [{"one": 1, "two": 2}, {}, {}, {"one": 2}]
        assert await count(NOON, NOON + 4 * MINUTE, MINUTE) == some
        assert await count(NOON, NOON + 4 * MINUTE, 2 * MINUTE, "one") == [{"one": 1}, {"one": 2}]
        # Minutes before and after the whole hours.
        assert await count(NOON + MINUTE, end) == [{"one": 3}]
        assert await count(NOON - MINUTE, end - 2 * MINUTE) == [{"one": 3, "two": 2}]
        assert await count(end, NOON) == []
        assert await count(datetime(1970, 1, 1, tzinfo=UTC), task="two") == [{"two": 2}]
        # Whole days, and the hours and minutes around them.
        await store(first, clock, NOON - 25 * HOUR - MINUTE, "one")
        await store(first, clock, NOON - 25 * HOUR, "one")
        assert await count(NOON - 25 * HOUR) == [{"one": 5, "two": 2}]
        assert await count(NOON - 25 * HOUR, end) == [{"one": 5, "two": 2}]
        assert await count(NOON - 25 * HOUR - MINUTE, end - MINUTE) == [{"one": 6, "two": 2}]
        assert await count(NOON - 48 * HOUR, step=24 * HOUR, task="one") == [
            {},
            {"one": 2},
            {"one": 4},
            {},
            {},
        ]
        (period,) = await worker.statistics.read(NOON, end, by_task=False)
        assert (period.tasks, period.total.completed) == ({}, 6)
        periods = await worker.statistics.read(NOON, end, HOUR)
        assert [period.start for period in periods] == [NOON, NOON + HOUR, NOON + 2 * HOUR]


async def test_a_step_that_does_not_fit_is_refused(worker, run):
    now = datetime.now(UTC)
    async with run():
        for step in (timedelta(seconds=30), timedelta(0), -HOUR, timedelta(seconds=90)):
            with pytest.raises(ValueError, match="a step is whole hours, or"):
                await worker.statistics.read(now - HOUR, step=step)
        with pytest.raises(ValueError, match="a step is whole hours, or"):
            await worker.statistics.read(now - 48 * HOUR, step=MINUTE)
        assert len(await worker.statistics.read(now - 24 * HOUR, now, MINUTE)) >= 1440
        assert len(await worker.statistics.read(now - 9999 * HOUR, now, HOUR)) <= 14 * 24 + 1


async def test_minutes_stay_in_memory_while_mongodb_is_down(worker, run, clock, monkeypatch):
    def refuse():
        raise AutoReconnect("connection refused")

    monkeypatch.setattr(minutes, "MAX_SPANS", 65)
    async with run():
        counts = MinuteCounts("first")
        # Only this call fails. The template's own tests stop a real server.
        with monkeypatch.context() as patch:
            patch.setattr(MinuteModel, "get_pymongo_collection", refuse)
            for _ in range(4 * 60):
                counts.note_end("one", "completed", 1)
                clock.now += MINUTE
                with pytest.raises(AutoReconnect):
                    await counts.write()
        for _ in range(2):  # the second time has nothing to store
            await counts.write()
            # The last hour by minutes, and all hours.
            periods = await worker.statistics.read(NOON, NOON + 4 * HOUR, HOUR)
            assert [period.total.completed for period in periods] == [60, 60, 60, 60]
            periods = await worker.statistics.read(NOON, NOON + 4 * HOUR, HOUR / 2)
            assert [period.total.completed for period in periods] == 6 * [0] + [30, 30]


async def test_minutes_expire_after_14_days(worker, run, clock):
    async with run():
        await store(MinuteCounts("first"), clock, NOON, "one")
        collection = MinuteModel.get_pymongo_collection()
        documents = await collection.find().sort("minutes").to_list()
        assert [document["minutes"] for document in documents] == [1, 60, 1440]
        row = {"task": "one", "completed": 1, "d4": 1, "dmax": 1, "wmax": 0}
        for document in documents:
            assert document["tasks"] == [row]
            ends_at = document["start"] + document["minutes"] * MINUTE
            assert document["expires_at"] - ends_at == timedelta(days=14)
        indexes = (await collection.index_information()).values()
        (index,) = [index for index in indexes if "expireAfterSeconds" in index]
        assert (index["key"], index["expireAfterSeconds"]) == ([("expires_at", 1)], 0)


def test_percentiles_are_interpolated_as_prometheus_does():
    """The numbers are from `histogram_quantile` of Prometheus 2.42, for the same buckets."""
    none = [0] * (len(BUCKETS) + 1)
    empty = TaskFigures("one", 0, 0, 0, 0, none, none)
    assert (empty.duration(0.5), empty.wait(0.95)) == (None, None)
    durations = none.copy()
    durations[2], durations[4] = 80, 20  # 0.02 s to 0.1 s, and 0.5 s to 1 s
    figures = TaskFigures("one", 100, 0, 0, 0, durations, [*none[1:], 1])
    assert figures.duration(0.5) == pytest.approx(0.07)
    assert figures.duration(0.95) == pytest.approx(0.875)
    assert figures.duration(1) == pytest.approx(1)
    assert figures.wait(0.95) == 1800


def test_no_percentile_is_above_the_longest_time():
    none = [0] * (len(BUCKETS) + 1)
    one, many, late = none.copy(), none.copy(), none.copy()
    one[2], many[0], many[9], late[-1] = 1, 90, 10, 4  # 0.1 s, 0.005 s, 1,800 s, and above
    figures = TaskFigures("one", 1, 0, 0, 0, one, late, 0.025, 3000)
    assert figures.duration(0.5) == pytest.approx(0.0225)
    assert figures.duration(1) == 0.025
    assert figures.wait(0.5) == pytest.approx(2400)
    assert figures.wait(1) == 3000
    figures = TaskFigures("many", 100, 0, 0, 0, many, many, 360, 300.5)
    assert figures.duration(0.9) == pytest.approx(0.005)
    assert figures.duration(0.95) == pytest.approx(330)
    assert figures.duration(1) == 360
    assert figures.wait(1) == 300.5
    assert figures.duration(2) == 360
    figures = TaskFigures("unknown", 4, 0, 0, 0, late, late)
    assert (figures.duration(0.5), figures.wait(1)) == (1800, 1800)


async def test_the_longest_times_of_several_minutes_and_workers_are_kept(worker, run, clock):
    async with run():
        for name, seconds in (("first", 30.0), ("second", 40.0)):
            counts = MinuteCounts(name)
            for minute in range(3):
                clock.now = NOON + minute * MINUTE
                await counts.write()
                counts.note_end("one", "completed", seconds + minute % 2)
                counts.note_wait("one", seconds / 4 + minute % 2)
                counts.note_end("two", "failed", 0.025)
            clock.now = NOON + 3 * MINUTE
            await counts.write()

        async def find(**options: Any) -> list[tuple[float | None, float | None]]:
            periods = await worker.statistics.read(NOON, NOON + HOUR, **options)
            return [(period.total.duration(1), period.total.wait(1)) for period in periods]

        assert await find() == [(41, 11)]
        assert await find(by_task=False) == [(41, 11)]
        assert await find(task="two") == [(0.025, None)]
        assert (
            await find(step=MINUTE, task="one")
            == [(40, 10), (41, 11), (40, 10)] + [(None, None)] * 57
        )
        # An earlier release has not stored the longest times, so they are unknown.
        rows = {"$set": {"tasks": [{"task": "one", "completed": 1, "d7": 1, "w6": 1}]}}
        await MinuteModel.get_pymongo_collection().update_many({"worker": "first"}, rows)
        assert await find() == [(60, 15)]
        (period,) = await worker.statistics.read(NOON, NOON + HOUR)
        assert period.tasks["one"].completed == 4

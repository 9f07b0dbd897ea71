"""Schedules: each run happens once, with any number of workers."""

import asyncio
from collections import Counter
from datetime import UTC, datetime, timedelta, tzinfo
from functools import partial
from typing import Annotated, Any

import apscheduler.triggers.interval
import pytest
from pydantic import AfterValidator
from pymongo import AsyncMongoClient
from pymongo.monitoring import CommandListener

from core.models import ScheduleModel
from core.tasks import JobStatus, ScheduleError, Sensitive, current_job
from core.tasks.engine import Promise
from core.tasks.schedules import schedules, states
from core.tasks.schedules.schedules import Schedules
from core.testing import eventually
from core.tests.running import WAIT


async def test_a_schedule_fires_repeatedly(worker, run):
    ids = []

    @worker.every(seconds=1, id="tick")
    @worker.task
    async def tick() -> None:
        ids.append(current_job().id)

    async with run():
        await eventually(lambda: len(ids) >= 2, WAIT)
        (view,) = await worker.schedules.list()
    assert (view.id, view.task, view.enabled) == ("tick", "tick", True)
    assert view.trigger == "interval seconds=1"
    assert view.last_run
    assert view.next_run
    assert view.next_run > view.last_run
    assert len(set(ids)) == len(ids)  # an id contains the time of the schedule


async def make_due(schedule: str, seconds: float = 2) -> datetime:
    """Let a schedule be due for some seconds, and return its due time."""
    due = datetime.now(UTC).replace(microsecond=0) - timedelta(seconds=seconds)
    collection = ScheduleModel.get_pymongo_collection()
    await collection.update_one({"_id": schedule}, {"$set": {"next_run": due}})
    return due


async def has_run(schedules: Schedules) -> bool:
    return all(view.last_run for view in await schedules.list())


async def test_each_run_is_one_job_with_any_number_of_workers(worker, run, engine_settings):
    ran = []

    @worker.cron("0 0 1 1 *", id="yearly")
    async def yearly() -> None:
        ran.append(1)

    async with run():
        schedules = worker.schedules
        declared = worker.check(engine_settings)
        others = [Schedules(worker.queue, declared) for _ in range(5)]
        await asyncio.gather(*(other.register() for other in others))
        await make_due("yearly")
        await asyncio.gather(*(other.fire_due(datetime.now(UTC)) for other in others))
        (view,) = await schedules.list()
        assert view.last_job
        await worker.job(view.last_job).result(WAIT)
        await schedules.tick()
        (view,) = await schedules.list()
        assert view.status is JobStatus.COMPLETED
        assert view.next_run
        assert view.next_run > datetime.now(UTC)
        # A second run of the schedule would be taken before this job.
        await (await worker.tasks["yearly"].enqueue()).result(WAIT)
    assert ran == [1, 1]


async def test_a_schedule_is_enabled_disabled_and_run_now(worker, run):
    ran = []

    @worker.every(seconds=1, id="quick", enabled=False)
    async def quick() -> None:
        ran.append(1)

    async with run():
        await worker.schedules.register()
        await worker.schedules.fire_due(datetime.now(UTC) + timedelta(hours=1))
        job_id = await worker.schedules.run_now("quick")
        await worker.job(job_id).result(WAIT)
        assert ran == [1]
        await worker.schedules.enable("quick")
        await eventually(lambda: len(ran) >= 2, WAIT)
        await worker.schedules.disable("quick")
        (view,) = await worker.schedules.list()
        assert not view.enabled
        problem = "there is no schedule slow; this service has: quick"
        with pytest.raises(ScheduleError, match=problem):
            await worker.schedules.enable("slow")


async def test_the_jobs_of_a_schedule_get_its_arguments(worker, run):
    seen = []

    @worker.cron("0 0 1 1 *", id="by position", args=["weekly", "tok-5ecret"])
    @worker.cron("0 0 1 1 *", id="by name", args={"token": "tok-5ecret", "kind": "daily"})
    @worker.task
    async def report(kind: str, token: Sensitive[str], pages: int = 1) -> None:
        seen.append((kind, token, pages))

    async with run():
        schedules = worker.schedules
        await schedules.register()
        await make_due("by name")
        await schedules.fire_due(datetime.now(UTC))
        await eventually(lambda: seen == [("daily", "tok-5ecret", 1)], WAIT)
        job_id = await schedules.run_now("by position")
        await worker.job(job_id).result(WAIT)
        assert seen[1] == ("weekly", "tok-5ecret", 1)
        stored = await ScheduleModel.get_pymongo_collection().find().to_list()
        assert "tok-5ecret" not in str(stored)


async def test_jitter_delays_the_job_of_a_run(worker, run, engine_settings):
    @worker.cron("0 0 1 1 *", id="yearly", jitter=7200)
    async def yearly() -> None: ...

    async with run():
        schedules = worker.schedules
        await schedules.register()
        due = await make_due("yearly")
        others = [Schedules(worker.queue, worker.check(engine_settings)) for _ in range(5)]
        await asyncio.gather(*(other.fire_due(datetime.now(UTC)) for other in others))
        await eventually(lambda: has_run(schedules), WAIT)  # the worker itself may have enqueued it
        (view,) = await schedules.list()
        assert (view.last_run, view.status) == (due, JobStatus.SCHEDULED)
        assert view.last_job
        record = await worker.queue.read(view.last_job)
        assert record.at is not None
        assert due.timestamp() < record.at < due.timestamp() + 7200
        assert (await worker.queue.engine.stats()).scheduled == 1


async def test_a_schedule_that_fails_stops_no_other(worker, run):
    ran = []
    is_refused = False

    def check(value: str) -> str:
        if is_refused:
            raise ValueError("not today")
        return value

    @worker.cron("0 0 1 1 *", id="first", args=["x"])
    async def refused(value: Annotated[str, AfterValidator(check)]) -> None: ...

    @worker.cron("0 0 1 1 *", id="second")
    async def fine() -> None:
        ran.append(1)

    async with run():
        await worker.schedules.register()
        is_refused = True
        await make_due("first")
        await make_due("second")
        await eventually(lambda: ran == [1], WAIT)


class CommandCounter(CommandListener):
    """Counts the commands that MongoDB receives."""

    def __init__(self) -> None:
        self.writes = Counter[str]()

    def started(self, event) -> None:
        if event.command_name == "update" and event.command["update"] == "schedules":
            self.writes["update"] += 1

    def succeeded(self, event) -> None: ...

    def failed(self, event) -> None: ...


async def test_thousands_of_schedules_take_few_commands(worker, run, monkeypatch):
    count = 2000
    commands = CommandCounter()
    client = partial(AsyncMongoClient, event_listeners=[commands])
    monkeypatch.setattr("core.database.connection.AsyncMongoClient", client)
    ids = []

    @worker.task
    async def work() -> None:
        ids.append(current_job().id)

    for number in range(count):
        worker.cron("0 0 1 1 *", id=f"yearly-{number}")(work)
    async with run():
        collection = ScheduleModel.get_pymongo_collection()

        async def are_registered() -> bool:
            return await collection.count_documents({}) == count

        await eventually(are_registered, WAIT)
        assert commands.writes["update"] < count / 20
        commands.writes.clear()
        await collection.update_many({}, {"$set": {"next_run": datetime.now(UTC)}})
        await eventually(lambda: len(ids) == count, 2 * WAIT)
        if Promise.DURABLE in worker.queue.engine.promises:
            assert commands.writes["update"] < count / 20
    assert len(set(ids)) == count


async def test_a_wrong_clock_of_a_worker_moves_no_schedule(worker, run, monkeypatch):
    """A clock that jumps an hour ahead must not silence a schedule for that hour."""

    class Fast(datetime):
        @classmethod
        def now(cls, tz: tzinfo | None = None) -> Any:
            return datetime.now(tz) + timedelta(hours=1)

    for module in (schedules, states, apscheduler.triggers.interval):
        monkeypatch.setattr(module, "datetime", Fast)
    ids = []

    @worker.every(seconds=1, id="tick")
    async def tick() -> None:
        ids.append(current_job().id)

    async with run():
        await eventually(lambda: len(ids) >= 2, WAIT)
        state = await ScheduleModel.get("tick")
        assert state
        assert state.next_run
        assert state.next_run < datetime.now(UTC) + timedelta(minutes=1)
        await make_due("tick")
        await eventually(lambda: len(ids) >= 4, WAIT)

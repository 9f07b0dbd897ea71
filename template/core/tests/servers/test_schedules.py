"""Schedules in MongoDB: missed runs, changed code and invalid triggers, with the local engine."""

import asyncio
import logging
from datetime import UTC, datetime, timedelta

import httpx2
import pytest

from core.entry import Service
from core.models import ScheduleModel
from core.tasks import ScheduleError, Worker
from core.tasks.schedules.schedules import LOOK_SECONDS
from core.testing import empty, eventually
from core.tests.running import WAIT, running
from core.web import create_app


async def nothing() -> None: ...


async def set_next_run(schedule: str, time: datetime) -> None:
    collection = ScheduleModel.get_pymongo_collection()
    await collection.update_one({"_id": schedule}, {"$set": {"next_run": time}})


@pytest.mark.parametrize(("late", "jobs"), [(timedelta(hours=10), 1), (timedelta(days=3), 0)])
async def test_missed_runs_become_at_most_one_job(worker, settings, late, jobs):
    """After an outage one job is enough, and no job if the last run is too long ago."""
    now = datetime(2099, 1, 10, 12, 30, tzinfo=UTC)

    @worker.cron("0 * * * *", misfire_grace=7200 if jobs else 60)
    async def hourly() -> None: ...

    async with running(worker, settings):
        schedules = worker.schedules
        await schedules.register()
        await set_next_run("hourly", now - late)
        await schedules.fire_due(now)
        state = await ScheduleModel.get("hourly")
        assert state
        assert state.next_run
        assert state.next_run > now
        assert bool(state.last_job) is bool(jobs)


async def test_the_next_search_is_when_the_next_schedule_is_due(worker, settings):
    now = datetime(2098, 1, 10, 12, 30, tzinfo=UTC)
    soon = now + timedelta(seconds=LOOK_SECONDS / 2)

    @worker.cron("0 0 1 1 *")
    async def yearly() -> None: ...

    @worker.cron("0 0 1 1 *")
    async def other() -> None: ...

    async with running(worker, settings):
        schedules = worker.schedules
        await schedules.register()
        removed = ScheduleModel(id="removed", trigger="x", enabled=True, next_run=now)
        await removed.insert()
        await set_next_run("yearly", datetime(2099, 1, 1, tzinfo=UTC))
        await set_next_run("other", soon)
        assert await schedules.fire_due(now) == soon
        state = await ScheduleModel.get("other")
        assert state
        assert state.last_job is None
        assert await schedules.fire_due(soon) == soon  # its next run may be soon
        assert await schedules.fire_due(soon) == soon + timedelta(seconds=LOOK_SECONDS)


async def test_a_schedule_that_was_removed_from_the_code_stops(worker, settings):
    worker.at("2020-01-01T00:00:00Z", id="past")(worker.task(name="past")(nothing))
    async with running(worker, settings):
        await worker.schedules.register()
        removed = ScheduleModel(
            id="removed", trigger="x", enabled=True, next_run=datetime(2020, 1, 1, tzinfo=UTC)
        )
        await removed.insert()
        await worker.schedules.fire_due(datetime.now(UTC))
        assert [view.id for view in await worker.schedules.list()] == ["past"]
        state = await ScheduleModel.get("removed")
        assert state
        assert state.last_job is None


def declare_broken(worker: Worker) -> None:
    worker.cron("every day", id="bad", name="A title")(worker.task(name="one")(nothing))
    worker.every(hours=1, id="good")(worker.task(name="two")(nothing))
    worker.every(hours=1)(needs)


async def needs(value: int) -> None: ...


BAD = "bad (task one): a crontab has five fields (minute hour day month weekday), not 'every day'"
NEEDS = (
    "needs (task needs): missing a required argument: 'value'; "
    "the option `args` gives the arguments of its jobs"
)


async def test_a_state_that_cannot_be_used_stops_no_other_schedule(worker, settings):
    now = datetime(2099, 1, 10, 12, 30, tzinfo=UTC)

    @worker.cron("0 * * * *")
    async def hourly() -> None: ...

    async with running(worker, settings):
        schedules = worker.schedules
        await schedules.register()
        await set_next_run("hourly", now - timedelta(hours=1))
        collection = ScheduleModel.get_pymongo_collection()
        copied = [{"$match": {"_id": "hourly"}}, {"$set": {"_id": "a copy"}}]
        into = {"$merge": {"into": collection.name}}
        await (await collection.aggregate([*copied, into])).to_list()
        with pytest.raises(KeyError):
            await schedules.fire_due(now)
        assert await collection.find_one({"_id": "hourly", "next_run": {"$gt": now}})


async def test_a_broken_schedule_stops_the_start(worker, settings):
    declare_broken(worker)
    with pytest.raises(ScheduleError) as error:
        async with worker.open(settings):
            pass
    assert str(error.value) == f"broken schedules: {BAD}; {NEEDS}"


async def test_in_production_a_broken_schedule_is_shown_and_the_others_run(
    worker, settings, caplog
):
    declare_broken(worker)
    production = settings.model_copy(update={"environment": "production"})
    with caplog.at_level(logging.ERROR):
        app = create_app(Service([], [], worker), production)
        async with app.router.lifespan_context(app):
            bad, good, needs = await worker.schedules.list()
            transport = httpx2.ASGITransport(app)
            async with httpx2.AsyncClient(transport=transport, base_url="http://test") as client:
                ready = await client.get("/health/ready")
            with pytest.raises(ScheduleError, match="schedule bad is broken: a crontab has five"):
                await worker.schedules.enable("bad")
            await eventually(lambda: ScheduleModel.get("good"))
    await empty(settings)
    assert (bad.id, bad.name, bad.trigger) == ("bad", "A title", "crontab expression=every day")
    assert (bad.enabled, bad.next_run) == (False, None)
    assert bad.problem
    assert bad.problem in BAD
    assert needs.problem
    assert needs.problem in NEEDS
    assert good.problem is None
    assert good.next_run
    assert ready.status_code == 200
    checks = {"database": "ok", "queue": "ok", "schedules": "broken"}
    assert ready.json() == {"status": "degraded", "checks": checks}
    assert caplog.text.count("schedule is broken") == 2
    assert "a crontab has five fields" in caplog.text


async def test_a_schedule_is_declared_before_the_service_starts(worker, settings):
    task = worker.task(nothing)
    problem = "the service is already running: declare schedules in a module .* task.using"
    async with running(worker, settings):
        with pytest.raises(ScheduleError, match=problem):
            worker.every(hours=1)(task)
        with pytest.raises(ScheduleError, match=problem):
            worker.schedule(needs, "cron", hour=1)
        assert "needs" not in worker.tasks
        assert await worker.schedules.list() == []


async def test_schedules_are_registered_by_a_call(worker, settings):
    async def clean_up() -> None: ...

    worker.schedule(
        clean_up,
        trigger="cron",
        id="clean",
        hour=0,
        minute=0,
        max_retries=3,
        timeout=300,
    )
    worker.schedule(
        worker.tasks["clean_up"],
        trigger="interval",
        id="often",
        hours=1,
        enabled=False,
    )
    async with running(worker, settings):
        views = await worker.schedules.list()
    assert [(view.id, view.enabled) for view in views] == [("clean", True), ("often", False)]
    assert worker.tasks["clean_up"].options.max_retries == 3


async def test_processes_without_a_queue_server_fire_a_run_once(db, settings):
    """Each of them has its own queue, so the id of the job does not prevent a second run."""
    ran = []
    workers = [Worker(), Worker()]
    for each in workers:

        @each.cron("0 0 1 1 *")
        async def yearly() -> None:
            ran.append(1)

    now = datetime.now(UTC)
    first, second = workers
    async with first.open(settings), second.open(settings):
        await first.schedules.register()
        await set_next_run("yearly", now)
        await asyncio.gather(*(each.schedules.fire_due(now) for each in workers))
        # A second run of the schedule would be taken before these jobs.
        for each in workers:
            await (await each.tasks["yearly"].enqueue()).result(WAIT)
    assert ran == [1, 1, 1]


async def test_each_run_of_a_short_interval_has_its_own_job(worker, settings):
    @worker.every(seconds=1)
    async def often() -> None: ...

    start = datetime(2099, 1, 1, tzinfo=UTC)
    jobs = set()
    async with running(worker, settings):
        await worker.schedules.register()
        for seconds in (0.5, 1.5, 2.5, 3.5):
            due = start + timedelta(seconds=seconds)
            await set_next_run("often", due)
            await worker.schedules.fire_due(due)
            (view,) = await worker.schedules.list()
            jobs.add(view.last_job)
    assert len(jobs) == 4

"""Schedules in MongoDB: missed runs, changed code and invalid triggers, with the local engine."""

import logging
from datetime import UTC, datetime, timedelta

import pytest

from core.models import ScheduleModel
from core.tests.running import running


async def nothing() -> None: ...


@pytest.mark.parametrize(("late", "jobs"), [(timedelta(hours=10), 1), (timedelta(days=3), 0)])
async def test_missed_runs_become_at_most_one_job(worker, settings, late, jobs):
    """After an outage one job is enough, and no job if the last run is too long ago."""
    now = datetime(2027, 1, 10, 12, 30, tzinfo=UTC)

    @worker.cron("0 * * * *", misfire_grace=7200 if jobs else 60)
    async def hourly() -> None: ...

    async with running(worker, settings):
        schedules = worker.schedules
        await schedules.register()
        collection = ScheduleModel.get_pymongo_collection()
        await collection.update_one({"_id": "hourly"}, {"$set": {"next_run": now - late}})
        await schedules.fire_due(now)
        state = await ScheduleModel.get("hourly")
        assert state
        assert state.next_run
        assert state.next_run > now
        assert bool(state.last_job) is bool(jobs)


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


async def test_an_invalid_schedule_is_logged_and_stops_no_other(worker, settings, caplog):
    worker.cron("every day", id="bad")(worker.task(name="one")(nothing))
    worker.every(hours=1, id="good")(worker.task(name="two")(nothing))

    @worker.every(hours=1)
    @worker.task
    async def needs(value: int) -> None: ...

    with caplog.at_level(logging.ERROR):
        async with running(worker, settings):
            assert [view.id for view in await worker.schedules.list()] == ["good"]
    assert "a crontab has five fields" in caplog.text
    assert "missing a required argument: 'value'" in caplog.text


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

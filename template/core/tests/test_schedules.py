"""Schedules: each time once, however many workers there are, and nothing that was missed comes as a flood."""

import argparse
import asyncio
import logging
import re
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest

from core.entry import load_service
from core.errors import UserError
from core.models import ScheduleModel
from core.tasks import InvalidTask, JobStatus
from core.tasks.schedules import ScheduleError, Schedules
from core.tasks.triggers import crontab_trigger, make_trigger, next_time
from core.tests.running import running

WAIT = 10


async def test_it_fires_again_and_again(worker, run):
    times = []

    @worker.every(seconds=1, id="tick")
    @worker.task
    async def tick() -> None:
        times.append(datetime.now(UTC))

    async with run():
        async with asyncio.timeout(WAIT):
            while len(times) < 2:
                await asyncio.sleep(0.05)
        (view,) = await worker.schedules.list()
    assert (view.id, view.task, view.enabled, view.trigger) == (
        "tick",
        "tick",
        True,
        "interval[0:00:01]",
    )
    assert view.last_run
    assert view.next_run
    assert view.next_run > view.last_run
    assert times[1] - times[0] > timedelta(seconds=0.4)


async def test_each_time_makes_one_job_with_any_number_of_workers(worker, run):
    ran = []

    @worker.cron("0 0 1 1 *", id="yearly")
    async def yearly() -> None:
        ran.append(1)

    async with run():
        schedules = worker.schedules
        await schedules.register()
        due = datetime.now(UTC) - timedelta(seconds=2)
        await ScheduleModel.get_pymongo_collection().update_one(
            {"_id": "yearly"}, {"$set": {"next_run": due}}
        )
        others = [Schedules(worker.queue, schedules._declared) for _ in range(5)]
        await asyncio.gather(*(other.fire_due(datetime.now(UTC)) for other in others))
        (view,) = await schedules.list()
        assert view.last_job
        await worker.job(view.last_job).result(WAIT)
        await asyncio.sleep(0.7)  # longer than a tick of the worker's own
        (view,) = await schedules.list()
        assert view.status is JobStatus.COMPLETED
        assert view.next_run
        assert view.next_run > datetime.now(UTC)
    assert ran == [1]


@pytest.mark.parametrize(("late", "jobs"), [(timedelta(hours=10), 1), (timedelta(days=3), 0)])
async def test_missed_times_become_one_job_or_none(worker, settings, late, jobs):
    """All workers were down for a while: one job is enough, and none where even the last time is too long ago."""
    now = datetime(2027, 1, 10, 12, 30, tzinfo=UTC)

    @worker.cron("0 * * * *", misfire_grace=7200 if jobs else 60)
    async def hourly() -> None: ...

    async with running(worker, settings):
        schedules = worker.schedules
        await schedules.register()
        next_run = now - late
        await ScheduleModel.get_pymongo_collection().update_one(
            {"_id": "hourly"}, {"$set": {"next_run": next_run}}
        )
        await schedules.fire_due(now)
        state = await ScheduleModel.get("hourly")
        assert state
        assert state.next_run
        assert state.next_run > now
        assert bool(state.last_job) is bool(jobs)


async def test_enable_disable_and_run_now(worker, run):
    ran = []

    @worker.every(seconds=1, id="quick", enabled=False)
    async def quick() -> None:
        ran.append(1)

    async with run():
        await asyncio.sleep(1.8)
        assert ran == []  # off, as the code says at first
        job_id = await worker.schedules.run_now("quick")
        await worker.job(job_id).result(WAIT)
        assert ran == [1]
        await worker.schedules.enable("quick")
        async with asyncio.timeout(WAIT):
            while len(ran) < 2:
                await asyncio.sleep(0.05)
        await worker.schedules.disable("quick")
        (view,) = await worker.schedules.list()
        assert not view.enabled
        with pytest.raises(
            ScheduleError, match="there is no schedule slow; this service has: quick"
        ):
            await worker.schedules.enable("slow")


async def test_what_is_no_longer_in_the_code_stops(worker, settings):
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


async def nothing() -> None: ...


async def test_a_schedule_that_cannot_be_is_told_and_stops_no_other(worker, settings, caplog):
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


async def test_schedules_are_registered_by_hand(worker, settings):
    async def clean_up() -> None: ...

    worker.schedule(
        clean_up, trigger="cron", id="clean", hour=0, minute=0, max_retries=3, timeout=300
    )
    worker.schedule(
        worker.tasks["clean_up"], trigger="interval", id="often", hours=1, enabled=False
    )
    async with running(worker, settings):
        views = await worker.schedules.list()
    assert [(view.id, view.enabled) for view in views] == [("clean", True), ("often", False)]
    assert worker.tasks["clean_up"].options.max_retries == 3


async def test_the_command_line(app, settings):
    """In a process of its own; this service has no schedule yet, so that an unknown one is named."""

    def command(*arguments: str) -> tuple[int, str]:
        words = [sys.executable, "-m", "core", "schedules", *arguments]
        done = subprocess.run(words, capture_output=True, text=True)
        return done.returncode, done.stdout + "".join(
            line for line in done.stderr.splitlines() if "error: " in line
        )

    status, output = await asyncio.to_thread(command, "run", "nothing")
    assert status == 2
    assert "error: there is no schedule nothing" in output
    assert (await asyncio.to_thread(command, "list"))[0] == 0


async def test_commands(app, settings, capsys):
    from core import commands

    worker = load_service(settings).worker
    worker.every(hours=1, id="hourly")(worker.task(name="test-nothing")(nothing))
    worker._opened.schedules = Schedules(worker.queue, worker.make_schedules("UTC"))
    try:
        for action in ("disable", "run", "list"):
            await commands._schedules(worker, argparse.Namespace(action=action, ids=["hourly"]))
        disabled, ran, _, listed = capsys.readouterr().out.splitlines()
        assert disabled == "hourly disabled"
        assert ran.startswith("hourly runs as job ")
        assert re.match(
            r"hourly  disabled  next 20\S+  last 20\S+ completed  interval\[1:00:00\]$", listed
        )
        with pytest.raises(UserError, match="name the schedules to enable"):
            await commands._schedules(worker, argparse.Namespace(action="enable", ids=[]))
    finally:
        del worker.tasks["test-nothing"]
        worker._declared.pop()


def test_time_zones_and_daylight_saving_time():
    berlin = ZoneInfo("Europe/Berlin")
    trigger = crontab_trigger("30 9 * * *", "Europe/Berlin")
    before = datetime(
        2027, 3, 27, 9, 30, tzinfo=berlin
    )  # the clocks go forward in the night that follows
    after = next_time(trigger, before, before)
    assert after == datetime(2027, 3, 28, 9, 30, tzinfo=berlin)
    assert after.astimezone(UTC) - before.astimezone(UTC) == timedelta(hours=23)


@pytest.mark.parametrize(
    ("weekday", "days"),
    [
        ("0", {6}),
        ("7", {6}),
        ("1", {0}),
        ("1-5", {0, 1, 2, 3, 4}),
        ("0-6", set(range(7))),
        ("mon", {0}),
        ("5,0", {4, 6}),
    ],
)
def test_weekdays_are_those_of_crontab(weekday, days):
    trigger = crontab_trigger(f"0 0 * * {weekday}", "UTC")
    time, seen = datetime(2027, 1, 1, tzinfo=UTC), set()
    for _ in range(14):
        found = next_time(trigger, time, time + timedelta(seconds=1))
        assert found
        time = found
        seen.add(time.weekday())
    assert seen == days


@pytest.mark.parametrize("line", ["", "* * * *", "61 * * * *", "* * * * 8", "a b c d e"])
def test_bad_crontabs_are_refused(line):
    with pytest.raises(InvalidTask):
        crontab_trigger(line, "UTC")


def test_bad_triggers_are_refused():
    with pytest.raises(InvalidTask, match="a trigger is one of cron, interval, date"):
        make_trigger("weekly", "UTC")
    with pytest.raises(InvalidTask, match="interval trigger"):
        make_trigger("interval", "UTC", fortnights=1)
    with pytest.raises(InvalidTask):
        make_trigger("cron", "Europe/Nowhere", hour=1)

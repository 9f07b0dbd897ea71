"""Schedules that the code changes: at a restart, and while two versions run side by side."""

import logging
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from core.config import Settings
from core.models import ScheduleModel
from core.tasks import ScheduleError, Worker

Declare = Callable[[Worker], object]

PAST = datetime(2020, 1, 1, tzinfo=UTC)
JANUARY = datetime(2099, 1, 1, tzinfo=UTC)


def every(**options: Any) -> Declare:
    return lambda worker: worker.every(**{"hours": 1, "id": "one", **options})(nothing)


def cron(**options: Any) -> Declare:
    return lambda worker: worker.cron("0 9 1 1 *", **{"id": "one", **options})(nothing)


async def nothing(value: int = 0) -> None: ...


@pytest.fixture
def start(db, settings: Settings) -> Callable[..., Any]:
    """Return a function that opens a version of the service, without the loop that fires."""

    @asynccontextmanager
    async def start(declare: Declare, **changes: object) -> AsyncIterator[Worker]:
        worker = Worker()
        declare(worker)
        async with worker.open(settings.model_copy(update=changes)):
            await worker.schedules.register()
            yield worker

    return start


async def read() -> ScheduleModel:
    state = await ScheduleModel.get("one")
    assert state
    return state


async def next_run() -> datetime:
    found = (await read()).next_run
    assert found
    return found


async def change(**fields: object) -> None:
    collection = ScheduleModel.get_pymongo_collection()
    await collection.update_one({"_id": "one"}, {"$set": fields})


async def test_a_removed_start_is_noticed(start):
    async with start(every(start_date="2099-01-01")):
        assert await next_run() == JANUARY
    async with start(every()):
        soon = datetime.now(UTC) + timedelta(hours=2)
        assert await next_run() < soon


async def test_a_removed_end_is_noticed(start, caplog):
    with caplog.at_level(logging.WARNING):
        async with start(cron(end_date="2020-01-01")) as worker:
            assert (await read()).next_run is None
            (view,) = await worker.schedules.list()
            assert view.next_run is None
    assert caplog.text.count("schedule never fires") == 1
    async with start(cron()):
        assert await next_run() > datetime.now(UTC)


async def test_a_changed_time_zone_of_the_settings_is_noticed(start):
    async with start(cron()):
        before = await next_run()
    async with start(cron(), schedule_timezone="Asia/Tokyo"):
        assert before - await next_run() == timedelta(hours=9)


async def test_a_changed_enabled_is_noticed(start):
    async with start(cron(enabled=False)):
        assert not (await read()).enabled
    await change(next_run=PAST)
    async with start(cron(enabled=True)):
        assert (await read()).enabled
        assert await next_run() > datetime.now(UTC)  # the runs before do not count as missed
    async with start(cron(enabled=False)):
        assert not (await read()).enabled


async def test_what_enable_and_disable_chose_stays(start):
    async with start(cron()) as worker:
        await worker.schedules.disable("one")
    async with start(cron()):
        assert not (await read()).enabled
    async with start(cron(timezone="Asia/Tokyo")):
        assert not (await read()).enabled
    async with start(cron(enabled=False)) as worker:
        await worker.schedules.enable("one")
    async with start(cron(enabled=False, jitter=5)):
        assert (await read()).enabled


async def test_changed_arguments_leave_the_next_run_as_it_is(start):
    """An interval does not begin again with each change."""
    async with start(every(args=[1])):
        before = await read()
    async with start(every(args=[2])):
        after = await read()
    assert before.definition != after.definition
    assert before.next_run == after.next_run


async def test_a_state_of_an_earlier_version_is_changed(start):
    old = {"trigger": "cron[hour='9']", "enabled": False, "next_run": None, "last_run": PAST}
    await ScheduleModel.get_pymongo_collection().insert_one({"_id": "one", **old})
    async with start(cron()) as worker:
        (view,) = await worker.schedules.list()
    assert view.next_run
    assert (view.enabled, view.last_run) == (False, PAST)


async def test_a_deleted_state_is_stored_again(start):
    async with start(cron()) as worker:
        await ScheduleModel.get_pymongo_collection().delete_many({})
        await worker.schedules.register()
        assert await next_run()


async def test_an_old_worker_neither_fires_nor_moves_a_changed_schedule(start):
    now = datetime.now(UTC)
    due = now.replace(microsecond=0) - timedelta(seconds=2)
    async with start(every(args=[1])) as old, start(cron(args=[2])) as new:
        await change(next_run=due)
        await old.schedules.register()
        await old.schedules.fire_due(now)
        assert await next_run() == due
        await new.schedules.fire_due(now)
        assert (await read()).last_run == due
        assert await next_run() > now


async def test_a_schedule_returns_to_the_worker_that_is_left(start):
    """An old worker that restarts during a deploy takes a schedule, and leaves it at its end."""
    async with start(cron()) as new:
        async with start(cron(timezone="Asia/Tokyo")) as old:
            await new.schedules.register()
            await old.schedules.register()
            taken = (await read()).definition
        await new.schedules.register()
        assert (await read()).definition == taken
        await change(claimed_at=datetime.now(UTC) - timedelta(minutes=2))
        await new.schedules.register()
        assert (await read()).definition != taken


async def test_a_schedule_that_never_fires_again_cannot_be_enabled(start):
    def once(worker: Worker) -> None:
        worker.at("2020-01-01", id="one", enabled=False)(nothing)

    async with start(once) as worker:
        with pytest.raises(ScheduleError, match="schedule one never fires again"):
            await worker.schedules.enable("one")
        assert not (await read()).enabled
        await worker.schedules.run_now("one")


async def test_enable_leaves_the_next_run_of_an_enabled_schedule_as_it_is(start):
    async with start(every()) as worker:
        await change(next_run=PAST)
        await worker.schedules.enable("one")
        assert await next_run() == PAST

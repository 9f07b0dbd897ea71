"""Schedules: each run happens once, with any number of workers."""

import asyncio
from datetime import UTC, datetime, timedelta

import pytest

from core.models import ScheduleModel
from core.tasks import JobStatus
from core.tasks.schedules import ScheduleError, Schedules
from core.testing import eventually
from core.tests.running import WAIT


async def test_a_schedule_fires_repeatedly(worker, run):
    times = []

    @worker.every(seconds=1, id="tick")
    @worker.task
    async def tick() -> None:
        times.append(datetime.now(UTC))

    async with run():
        await eventually(lambda: len(times) >= 2, WAIT)
        (view,) = await worker.schedules.list()
    assert (view.id, view.task, view.enabled) == ("tick", "tick", True)
    assert view.trigger == "interval[0:00:01]"
    assert view.last_run
    assert view.next_run
    assert view.next_run > view.last_run
    assert times[1] - times[0] > timedelta(seconds=0.4)


async def test_each_run_is_one_job_with_any_number_of_workers(worker, run):
    ran = []

    @worker.cron("0 0 1 1 *", id="yearly")
    async def yearly() -> None:
        ran.append(1)

    async with run():
        schedules = worker.schedules
        await schedules.register()
        due = datetime.now(UTC) - timedelta(seconds=2)
        collection = ScheduleModel.get_pymongo_collection()
        await collection.update_one({"_id": "yearly"}, {"$set": {"next_run": due}})
        others = [Schedules(worker.queue, schedules._declared) for _ in range(5)]
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

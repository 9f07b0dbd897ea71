"""The types of schedules: `just typecheck` accepts right declarations, and refuses wrong ones.

mypy reports each `type: ignore` of this file that it does not need.
"""

from datetime import UTC, date, datetime
from typing import assert_type

from core.tasks import Task, Worker
from core.tasks.schedules.declarations import build_schedules

worker = Worker()


async def nothing() -> None: ...


@worker.every(hours=1, jitter=30, start_date=date(2027, 1, 1), end_date="2028-01-01")
async def coroutine(name: str = "Ada") -> int:
    return len(name)


@worker.cron("0 0 * * *", timezone="Europe/Berlin", args=["Ada"], name="A title")
def function(name: str) -> int:
    return len(name)


@worker.at(datetime(2099, 1, 1, tzinfo=UTC), args={"name": "Ada"}, enabled=False)
@worker.every(days=1, args=["Ada"], id="daily", misfire_grace=60)
@worker.task(max_retries=1)
async def task(name: str) -> int:
    return len(name)


worker.schedule(task, "cron", hour=1, day_of_week="mon", args=["Ada"], id="by-cron")
worker.schedule(task, "interval", hours=1, jitter=5, args=["Ada"], id="by-interval")
worker.schedule(task, "date", run_date="2099-01-01", args=["Ada"], id="by-date")


async def call_each() -> None:
    """Call each task with right and wrong arguments. mypy checks this; no test runs it."""
    assert_type(await coroutine("Ada"), int)
    assert_type(await function("Ada"), int)
    assert_type(await task("Ada"), int)
    await coroutine(1)  # type: ignore[arg-type]
    await function(1)  # type: ignore[arg-type]
    await task(1)  # type: ignore[arg-type]


def test_right_declarations_are_valid():
    for each in (coroutine, function, task):
        assert isinstance(each, Task)
    declared = build_schedules(worker._declared, "UTC")
    assert declared.broken == []
    assert len(declared.valid) == 7


def test_wrong_declarations_have_a_wrong_type():
    wrong = Worker()
    clean = wrong.task(nothing)
    wrong.every(hours=1, fortnights=2)(clean)  # type: ignore[call-arg]
    wrong.every(hours=1, jitter="5")(clean)  # type: ignore[arg-type]
    wrong.cron("0 0 * * *", hour=1)(clean)  # type: ignore[call-arg]
    wrong.at("2099-01-01", args=5)(clean)  # type: ignore[arg-type]
    wrong.schedule(clean, "interval", hour=1)  # type: ignore[call-overload]
    wrong.schedule(clean, "cron", hours=1)  # type: ignore[call-overload]
    wrong.schedule(clean, "date")  # type: ignore[call-overload]
    wrong.schedule(clean, "weekly", hour=1)  # type: ignore[call-overload]
    declared = build_schedules(wrong._declared, "UTC")
    assert declared.valid == {}
    assert len(declared.broken) == 8

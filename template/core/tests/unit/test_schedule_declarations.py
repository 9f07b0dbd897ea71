"""Declarations of schedules: ids, tasks, options, and the faults of broken ones."""

from typing import Any

import pytest

from core.tasks import InvalidTask, ScheduleOptions, Sensitive, Worker
from core.tasks.schedules.declarations import DeclaredSchedules, build_schedules
from core.tasks.schedules.options import CheckedOptions


def build(worker: Worker, timezone: str = "UTC") -> DeclaredSchedules:
    return build_schedules(worker._declared, timezone)


async def nothing() -> None: ...


async def needs(value: int) -> None: ...


def test_every_option_is_checked():
    assert ScheduleOptions.__optional_keys__ == CheckedOptions.model_fields.keys()


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        ({"id": ""}, "id: "),
        ({"id": 5}, "id: "),
        ({"name": 5}, "name: "),
        ({"jitter": -1}, "jitter: "),
        ({"jitter": "5"}, "jitter: "),
        ({"jitter": float("inf")}, "jitter: "),
        ({"enabled": "no"}, "enabled: "),
        ({"misfire_grace": 0}, "misfire_grace: "),
        ({"timezone": "Mars/Olympus"}, "'Mars/Olympus' is not a time zone"),
        ({"start_date": "soon"}, "start_date must be a time"),
        ({"misfire": 5}, "there is no option misfire"),
        ({"args": "one"}, "args must be a list, or a mapping by name"),
        ({"args": 5}, "args must be a list, or a mapping by name"),
        ({"args": [1]}, "too many positional arguments"),
        ({"args": {"value": 1}}, "got an unexpected keyword argument 'value'"),
        ({"args": {1: 1}}, "keywords must be strings"),
    ],
)
@pytest.mark.parametrize("kind", ["cron", "every", "at", "schedule"])
def test_a_wrong_option_breaks_a_schedule_of_any_kind(worker, kind, options, problem):
    match kind:
        case "cron":
            worker.cron("0 0 * * *", **options)(nothing)
        case "every":
            worker.every(hours=1, **options)(nothing)
        case "at":
            worker.at("2099-01-01", **options)(nothing)
        case "schedule":
            worker.schedule(nothing, "cron", hour=1, **options)
    declared = build(worker)
    assert declared.valid == {}
    (broken,) = declared.broken
    assert broken.task == "nothing"
    assert broken.id == str(options.get("id", "nothing"))
    assert problem in broken.problem


@pytest.mark.parametrize(
    ("args", "problem"),
    [
        ([], "missing a required argument: 'value'"),
        (["many"], "parameter value: Input should be a valid integer"),
        ({"value": 1, "loud": True}, "got an unexpected keyword argument 'loud'"),
    ],
)
def test_arguments_that_do_not_fit_the_task_break_a_schedule(worker, args, problem):
    worker.every(hours=1, args=args)(needs)
    (broken,) = build(worker).broken
    assert broken.problem.startswith(problem)


def test_a_broken_schedule_does_not_show_its_arguments(worker):
    @worker.every(hours=1, args={"token": ["tok-5ecret"]})
    @worker.task
    async def pay(token: Sensitive[str]) -> None: ...

    worker.schedule(pay, "cron", hour=1, args=["x"], argument="tok-5ecret")
    first, second = build(worker).broken
    assert "tok-5ecret" not in f"{first} {first!r} {second} {second!r}"
    assert second.problem.startswith("cron trigger: there is no option argument;")
    assert second.trigger == "cron hour=1"


WEEKLY = {"weeks": 1, "days": 0, "hours": 0, "minutes": 0, "seconds": 0}
NEW_YEAR = {
    "year": "*",
    "month": 1,
    "day": "1",
    "week": "*",
    "day_of_week": "*",
    "hour": 0,
    "minute": 0,
    "second": 0,
}


@pytest.mark.parametrize(
    ("trigger", "trigger_args"),
    [
        ("interval", WEEKLY),
        ("cron", NEW_YEAR),
        ("cron", {"day_of_week": "mon", "hour": 9}),
        ("cron", {"minute": "*/15"}),
        ("date", {"run_date": "2099-12-25 00:00:00"}),
    ],
)
def test_a_schedule_comes_from_a_table_of_definitions(worker, trigger, trigger_args):
    definition = {
        "id": "one",
        "name": "A title",
        "func": nothing,
        "trigger": trigger,
        "enabled": False,
        "max_retries": 3,
        "timeout": 300,
        "timezone": "Europe/Berlin",
        "start_date": "2099-01-01",
        "end_date": None,
        "jitter": None,
        "args": None,
    }
    worker.schedule(**definition, **trigger_args)
    declared = build(worker)
    assert declared.broken == []
    schedule = declared.valid["one"]
    assert (schedule.options.name, schedule.options.enabled) == ("A title", False)
    assert schedule.task.options.timeout == 300


def test_a_second_schedule_with_the_same_id_is_broken(worker):
    worker.every(hours=1, id="same")(worker.task(name="first")(nothing))
    worker.every(hours=2, id="same")(worker.task(name="second")(nothing))
    declared = build(worker)
    assert declared.valid["same"].task.name == "first"
    (broken,) = declared.broken
    assert str(broken).startswith("same (task second): another schedule has this id")


def test_a_task_has_several_schedules(worker):
    @worker.every(hours=1)
    @worker.every(hours=2, id="chosen")
    @worker.cron("0 0 * * *")
    @worker.task
    async def clean() -> None: ...

    async def report() -> None: ...

    worker.schedule(report, trigger="cron", hour=1, max_retries=1, timeout=60)
    worker.schedule(report, trigger="interval", hours=1, max_retries=1)
    worker.schedule(report, trigger="date", run_date="2099-01-01")
    worker.at("2099-01-01")(report)
    found = {each.id: str(each.trigger) for each in build(worker).valid.values()}
    assert found == {
        "clean": "cron[month='*', day='*', day_of_week='*', hour='0', minute='0']",
        "chosen": "interval[2:00:00]",
        "clean:2": "interval[1:00:00]",
        "report": "cron[hour='1']",
        "report:2": "interval[1:00:00]",
        "report:3": "date[2099-01-01 00:00:00 UTC]",
        "report:4": "date[2099-01-01 00:00:00 UTC]",
    }
    assert worker.tasks.keys() == {"clean", "report"}


def test_a_schedule_is_described_as_it_was_declared(worker):
    options = {"timezone": "Europe/Berlin", "jitter": 30, "misfire_grace": 90}
    worker.schedule(nothing, "cron", hour=2, minute=30, **options)
    (schedule,) = build(worker).valid.values()
    assert schedule.description == "cron hour=2 minute=30 timezone=Europe/Berlin jitter=30"


def test_a_declaration_that_makes_no_schedule_is_refused(worker):
    with pytest.raises(InvalidTask, match="with a crontab line"):
        worker.cron(nothing)
    with pytest.raises(InvalidTask, match="with a time"):
        worker.at(nothing)
    task = worker.task(nothing)
    with pytest.raises(InvalidTask, match="a schedule runs a function, or a task of its worker"):
        worker.schedule(task | task, "interval", hours=1)
    with pytest.raises(InvalidTask, match="a schedule runs a function, or a task of its worker"):
        worker.schedule(Worker().task(nothing), "interval", hours=1)
    with pytest.raises(InvalidTask, match="task nothing exists already, with another timeout"):
        worker.schedule(nothing, "interval", hours=1, timeout=60)


def declare(**changes: Any) -> str:
    """Return the definition of a schedule."""
    worker = Worker()
    worker.every(**{"hours": 1, "args": [1, "tok-5ecret"], **changes})(pay)
    (schedule,) = build(worker).valid.values()
    return schedule.definition


async def pay(amount: int, token: Sensitive[str]) -> None: ...


@pytest.mark.parametrize(
    "change",
    [
        {"hours": 2},
        {"id": "other"},
        {"timezone": "Europe/Berlin"},
        {"start_date": "2027-01-01"},
        {"end_date": "2099-01-01"},
        {"jitter": 5},
        {"enabled": False},
        {"args": [2, "tok-5ecret"]},
        {"args": [1, "tok-other"]},
    ],
)
def test_the_definition_changes_with_the_declaration(change):
    assert declare(**change) != declare() == declare(name="A title", timezone="UTC")

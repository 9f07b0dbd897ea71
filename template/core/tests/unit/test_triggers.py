"""Triggers: crontab lines, weekdays, and time zones."""

from datetime import UTC, date, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest

from core.tasks import InvalidTask
from core.tasks.schedules import triggers
from core.tasks.schedules.triggers import last_and_next, make_trigger, next_time


def test_a_day_may_have_23_hours():
    berlin = ZoneInfo("Europe/Berlin")
    trigger = make_trigger("crontab", timezone="Europe/Berlin", expression="30 9 * * *")
    # In the following night the clocks go forward.
    before = datetime(2027, 3, 27, 9, 30, tzinfo=berlin)
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
        ("*/2", {6, 1, 3, 5}),
        ("*/3,mon", {6, 2, 5, 0}),
    ],
)
def test_weekdays_are_those_of_crontab(weekday, days):
    trigger = make_trigger("crontab", timezone="UTC", expression=f"0 0 * * {weekday}")
    time, seen = datetime(2027, 1, 1, tzinfo=UTC), set()
    for _ in range(14):
        found = next_time(trigger, time, time + timedelta(seconds=1))
        assert found
        time = found
        seen.add(time.weekday())
    assert seen == days


@pytest.mark.parametrize(
    ("days", "expected"),
    [
        ("13 * 5", [1, 8, 13, 15]),  # the 13th, and each Friday
        ("*/2 * 5", [1, 15, 29]),  # the Fridays among these days
        ("13 * *", [13]),
        ("* * 5", [1, 8, 15]),
    ],
)
def test_a_day_of_the_month_and_a_weekday_are_each_enough(days, expected):
    trigger = make_trigger("crontab", timezone="UTC", expression=f"0 0 {days}")
    time, seen = datetime(2026, 12, 31, tzinfo=UTC), []
    for _ in expected:
        found = next_time(trigger, time, time + timedelta(seconds=1))
        assert found
        time = found
        seen.append(time.day)
    assert seen == expected


@pytest.mark.parametrize(
    ("kind", "arguments"),
    [
        ("interval", {"seconds": 7}),
        ("interval", {"seconds": 7, "end_date": "2027-10-31T12:00:00"}),
        ("interval", {"hours": 5}),
        ("crontab", {"expression": "*/7 1-3 * * *"}),
        ("crontab", {"expression": "30 2 31 * 0"}),
        ("cron", {"second": "*/13", "end_date": "2027-10-31T12:00:00"}),
        ("date", {"run_date": "2027-10-30T12:00:00"}),
    ],
)
def test_the_last_missed_time_is_found_in_few_steps(kind, arguments, monkeypatch):
    """In the night in between, the clocks go back."""
    trigger = make_trigger(kind, timezone="Europe/Berlin", **arguments)
    now = datetime(2027, 10, 31, 13, 0, 0, 500, tzinfo=UTC)
    start = now - timedelta(days=1, hours=12)
    first = following = next_time(trigger, None, start)
    assert first
    latest = first
    while following and following <= now:
        latest = following
        following = next_time(trigger, latest, latest + timedelta(microseconds=1))
    calls = []

    def count(*values):
        calls.append(1)
        return next_time(*values)

    monkeypatch.setattr(triggers, "next_time", count)
    assert last_and_next(trigger, first, now) == (latest, following)
    assert len(calls) < 40


CRONTAB = "a crontab has five fields"


@pytest.mark.parametrize(
    ("kind", "arguments", "problem"),
    [
        ("crontab", {"expression": ""}, CRONTAB),
        ("crontab", {"expression": "* * * *"}, CRONTAB),
        ("crontab", {"expression": "61 * * * *"}, "higher than the maximum value"),
        ("crontab", {"expression": "* * * * 8"}, "a weekday is 0 to 7 or a name"),
        ("crontab", {"expression": "* * * * 1/0"}, "step cannot be zero"),
        ("crontab", {"expression": "a b c d e"}, "crontab trigger: "),
        ("weekly", {}, "the trigger must be cron, interval or date, not 'weekly'"),
        ("cron", {}, "give at least one field"),
        ("cron", {"hour": None}, "give at least one field"),
        ("cron", {"hour": 24}, "cron trigger: .*maximum value"),
        ("cron", {"hours": 1}, "there is no option hours; it takes args, day,"),
        ("cron", {"hour": 1, "timezone": "Europe/Nowhere"}, "'Europe/Nowhere' is not a time zone"),
        ("cron", {"hour": 1, "timezone": "../etc"}, "is not a time zone"),
        ("cron", {"hour": 1, "start_date": "soon"}, "start_date must be a time such as 2027-01-31"),
        ("cron", {"hour": 1, "end_date": 5}, "end_date must be a time"),
        (
            "cron",
            {"hour": 1, "start_date": "2027-01-02", "end_date": "2027-01-01"},
            "end_date is before start_date",
        ),
        ("interval", {"fortnights": 1}, "interval trigger: there is no option fortnights"),
        ("interval", {}, "an interval must be at least one second, not 0:00:00"),
        ("interval", {"hours": 0}, "an interval must be at least one second"),
        ("interval", {"seconds": 0.5}, "an interval must be at least one second"),
        ("interval", {"hours": -1}, "an interval must be at least one second"),
        ("interval", {"hours": "1"}, "interval trigger: .*hours"),
        ("interval", {"weeks": 10**9}, "interval trigger: "),
        ("date", {}, "run_date is missing"),
        ("date", {"run_date": "soon"}, "run_date must be a time"),
        (
            "date",
            {"run_date": "2027-01-01", "start_date": "2027-01-02"},
            "run_date must be between start_date and end_date",
        ),
        (
            "date",
            {"run_date": "2027-01-03", "end_date": date(2027, 1, 2)},
            "run_date must be between start_date and end_date",
        ),
    ],
)
def test_an_invalid_trigger_is_refused(kind, arguments, problem):
    with pytest.raises(InvalidTask, match=problem):
        make_trigger(kind, **{"timezone": "UTC", **arguments})


@pytest.mark.parametrize(
    ("kind", "arguments"),
    [
        ("crontab", {"expression": "0 9 * * *"}),
        ("cron", {"hour": 9}),
        ("interval", {"days": 1}),
        ("date", {"run_date": "2027-06-01 09:00:00"}),
    ],
)
def test_each_trigger_takes_a_time_zone_a_start_and_an_end(kind, arguments):
    trigger = make_trigger(
        kind,
        timezone="America/New_York",
        start_date="2027-06-01 09:00:00",
        end_date="2027-06-02",
        **arguments,
    )
    first = next_time(trigger, None, datetime(2026, 1, 1, tzinfo=UTC))
    assert first == datetime(2027, 6, 1, 13, tzinfo=UTC)
    assert next_time(trigger, first, first + timedelta(seconds=1)) is None

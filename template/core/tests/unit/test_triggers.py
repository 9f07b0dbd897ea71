"""Triggers: crontab lines, weekdays, and time zones."""

from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest

from core.tasks import InvalidTask
from core.tasks.triggers import crontab_trigger, make_trigger, next_time


def test_a_day_may_have_23_hours():
    berlin = ZoneInfo("Europe/Berlin")
    trigger = crontab_trigger("30 9 * * *", "Europe/Berlin")
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
def test_an_invalid_crontab_line_is_refused(line):
    with pytest.raises(InvalidTask):
        crontab_trigger(line, "UTC")


def test_an_invalid_trigger_is_refused():
    with pytest.raises(InvalidTask, match="a trigger is one of cron, interval, date"):
        make_trigger("weekly", "UTC")
    with pytest.raises(InvalidTask, match="interval trigger"):
        make_trigger("interval", "UTC", fortnights=1)
    with pytest.raises(InvalidTask):
        make_trigger("cron", "Europe/Nowhere", hour=1)

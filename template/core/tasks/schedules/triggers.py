"""The times of schedules. APScheduler's triggers compute them, with time zones and DST."""

import re
from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta
from functools import partial
from typing import Any, NamedTuple
from zoneinfo import ZoneInfo

from apscheduler.triggers.base import BaseTrigger
from apscheduler.triggers.combining import OrTrigger
from apscheduler.triggers.cron import CronTrigger
from apscheduler.triggers.date import DateTrigger
from apscheduler.triggers.interval import IntervalTrigger

from core.tasks.errors import InvalidTask
from core.tasks.schedules.options import (
    CronFields,
    DateFields,
    IntervalFields,
    ScheduleOptions,
)

FIELDS = {
    "cron": CronFields.__optional_keys__,
    "crontab": frozenset({"expression"}),  # given without its name
    "interval": IntervalFields.__optional_keys__,
    "date": DateFields.__required_keys__,
}
"""The arguments of each kind of trigger, without the arguments that all kinds share."""

_SHORTEST = timedelta(seconds=1)
_DAYS = ("sun", "mon", "tue", "wed", "thu", "fri", "sat", "sun")
_DAY_NUMBERS = re.compile(r"(\d)(?:-(\d))?(?:/(\d+))?")


class _Period(NamedTuple):
    """The arguments that the triggers share."""

    timezone: ZoneInfo
    start_date: datetime | None
    end_date: datetime | None


def make_trigger(
    kind: str,
    /,
    *,
    timezone: str,
    start_date: str | date | None = None,
    end_date: str | date | None = None,
    **fields: Any,
) -> BaseTrigger:
    """Make a trigger of APScheduler.

    Args:
        kind: One of `FIELDS`.
        timezone: The time zone of the trigger's times, such as `Europe/Berlin`.
        start_date: The first time at which the trigger may fire, or None.
        end_date: The last time at which it may fire, or None.
        **fields: The trigger's own arguments: `hour=9, minute=0`, `hours=1`,
            `run_date="2027-01-01"`.

    Raises:
        InvalidTask: An argument does not fit; the message says which.
    """
    if kind not in FIELDS:
        raise InvalidTask(f"the trigger must be cron, interval or date, not {kind!r}")
    unknown = fields.keys() - FIELDS[kind]
    if unknown:
        names = ", ".join(sorted(unknown))
        options = ScheduleOptions.__optional_keys__ | FIELDS[kind] - {"expression"}
        known = ", ".join(sorted(options))
        raise InvalidTask(f"{kind} trigger: there is no option {names}; it takes {known}")
    zone = find_zone(timezone)
    start = _read_time("start_date", start_date, zone)
    end = _read_time("end_date", end_date, zone)
    if start and end and end < start:
        raise InvalidTask("end_date is before start_date")
    period = _Period(zone, start, end)
    try:
        return _MAKERS[kind](period, **fields)
    except InvalidTask:
        raise
    except (ValueError, TypeError, OverflowError) as error:
        raise InvalidTask(f"{kind} trigger: {error}") from None


def find_zone(name: str) -> ZoneInfo:
    """Return a time zone.

    Args:
        name: Its name, such as `Europe/Berlin`.

    Raises:
        InvalidTask: There is no such time zone.
    """
    try:
        return ZoneInfo(name)
    except (KeyError, ValueError, TypeError, OSError):
        raise InvalidTask(f"{name!r} is not a time zone such as Europe/Berlin") from None


def next_time(trigger: BaseTrigger, previous: datetime | None, now: datetime) -> datetime | None:
    """Return when a trigger fires next, in UTC, or None if it never fires again.

    Args:
        trigger: The trigger.
        previous: When it fired last, or None.
        now: The earliest time to return. The date of a trigger that fires once may be earlier.
    """
    found: datetime | None = trigger.get_next_fire_time(previous, now)
    # When the clocks go back, an hour occurs twice. Adding to a local time forgets which one it is.
    return found and found.astimezone(UTC)


def last_and_next(
    trigger: BaseTrigger,
    first: datetime,
    now: datetime,
) -> tuple[datetime, datetime | None]:
    """Return the last time up to now at which a trigger was due, and the time after it.

    Args:
        trigger: The trigger.
        first: A time up to now at which it was due, in UTC.
        now: The time, in UTC.
    """
    latest = _skip_missed(trigger, first, now)
    return latest, next_time(trigger, latest, latest + timedelta(microseconds=1))


def _skip_missed(trigger: BaseTrigger, first: datetime, now: datetime) -> datetime:
    """Return the last due time without stepping through all times before it, maybe thousands."""
    if isinstance(trigger, IntervalTrigger):
        last = min(now, trigger.end_date or now)
        skipped: timedelta = (last - first) // trigger.interval * trigger.interval
        return first + skipped
    # A binary search. After each round, the last due time is `early`, or lies between `early` and
    # `late`.
    early, late = first, now
    while late - early > _SHORTEST:
        middle = early + (late - early) / 2
        found = next_time(trigger, None, middle)
        if found and middle <= found <= now:
            early = found
        else:
            late = middle
    return early


def _read_time(name: str, value: Any, zone: ZoneInfo) -> datetime | None:
    if value is None:
        return None
    try:
        time: datetime = DateTrigger(value, zone).run_date
    except (ValueError, TypeError):
        example = "2027-01-31 or 2027-01-31T12:00:00"
        raise InvalidTask(f"{name} must be a time such as {example}, not {value!r}") from None
    return time


def _make_cron(period: _Period, **fields: Any) -> BaseTrigger:
    # Without a field, APScheduler's trigger fires once a second.
    if all(value is None for value in fields.values()):
        raise InvalidTask("cron trigger: give at least one field, such as hour=9")
    return CronTrigger(**fields, **period._asdict())


def _make_crontab(period: _Period, *, expression: str) -> BaseTrigger:
    parts = expression.split()
    if len(parts) != 5:
        rule = "a crontab has five fields (minute hour day month weekday)"
        raise InvalidTask(f"{rule}, not {expression!r}")
    minute, hour, day, month, weekday = parts
    weekdays = [_name_weekdays(part) for part in weekday.split(",")]
    make = partial(_make_cron, period, minute=minute, hour=hour, month=month)
    by_weekday = {"day_of_week": ",".join(weekdays)}
    if day.startswith("*") or weekday.startswith("*"):
        return make(day=day, **by_weekday)
    # In crontab(5), each of the two fields is enough, unless one begins with a star.
    return OrTrigger([make(day=day), make(**by_weekday)])


def _make_interval(period: _Period, **fields: Any) -> BaseTrigger:
    # APScheduler turns an interval of zero into one second, and accepts a negative one.
    interval = timedelta(**fields)
    if interval < _SHORTEST:
        raise InvalidTask(f"an interval must be at least one second, not {interval}")
    return IntervalTrigger(**fields, **period._asdict())


def _make_date(period: _Period, *, run_date: str | date | None = None) -> BaseTrigger:
    zone, start, end = period
    time = _read_time("run_date", run_date, zone)
    # APScheduler turns a missing date into the present time.
    if time is None:
        raise InvalidTask("date trigger: run_date is missing")
    if (start and time < start) or (end and time > end):
        raise InvalidTask("run_date must be between start_date and end_date")
    return DateTrigger(time, zone)


_MAKERS: dict[str, Callable[..., BaseTrigger]] = {
    "cron": _make_cron,
    "crontab": _make_crontab,
    "interval": _make_interval,
    "date": _make_date,
}


def _name_weekdays(part: str) -> str:
    """Return a part of the weekday field with names instead of numbers.

    In crontab(5), 0 and 7 are Sunday. For APScheduler, 0 is Monday.
    """
    # A step counts from Sunday.
    match = _DAY_NUMBERS.fullmatch(part.replace("*/", "0-6/"))
    if not match:
        return part
    first = int(match[1])
    step = int(match[3] or 1)
    last = first
    if match[2]:
        last = int(match[2])
    elif match[3]:
        last = 6
    if max(first, last) > 7 or last < first:
        raise InvalidTask(f"a weekday is 0 to 7 or a name, not {part!r}")
    days = _DAYS[first : last + 1 : step]
    return ",".join(days)

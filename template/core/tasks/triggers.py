"""When a schedule fires. APScheduler's triggers compute the times, zones and DST included."""

import re
from datetime import datetime
from typing import Any

from apscheduler.triggers.base import BaseTrigger
from apscheduler.triggers.cron import CronTrigger
from apscheduler.triggers.date import DateTrigger
from apscheduler.triggers.interval import IntervalTrigger

from core.tasks.errors import InvalidTask

_KINDS = {
    "cron": CronTrigger,
    "interval": IntervalTrigger,
    "date": DateTrigger,
}
_DAYS = ("sun", "mon", "tue", "wed", "thu", "fri", "sat", "sun")
_DAY_NUMBERS = re.compile(r"(\d)(?:-(\d))?(?:/(\d+))?")


def make_trigger(kind: str, timezone: str, /, **arguments: Any) -> BaseTrigger:
    """Make a trigger of APScheduler.

    Args:
        kind: `cron`, `interval` or `date`.
        timezone: The time zone of the trigger's times, such as `Europe/Berlin`.
        **arguments: The trigger's arguments: `hour=9, minute=0`, `hours=1`,
            `run_date="2027-01-01"`.

    Raises:
        InvalidTask: An argument does not fit; the message says which.
    """
    try:
        return _KINDS[kind](timezone=timezone, **arguments)
    except KeyError as error:
        kinds = ", ".join(_KINDS)
        rule = f"a trigger is one of {kinds}, and time zones are known by name"
        raise InvalidTask(f"{rule}: {error}") from None
    except (ValueError, TypeError) as error:
        raise InvalidTask(f"{kind} trigger: {error}") from None


def crontab_trigger(expression: str, timezone: str) -> BaseTrigger:
    """Make the trigger of a crontab line.

    Args:
        expression: Minute, hour, day, month and weekday.
        timezone: The time zone, such as `Europe/Berlin`.

    Raises:
        InvalidTask: The line does not have five valid fields.
    """
    fields = expression.split()
    if len(fields) != 5:
        rule = "a crontab has five fields (minute hour day month weekday)"
        raise InvalidTask(f"{rule}, not {expression!r}")
    minute, hour, day, month, weekday = fields
    return make_trigger(
        "cron",
        timezone,
        minute=minute,
        hour=hour,
        day=day,
        month=month,
        day_of_week=",".join(_name_weekdays(part) for part in weekday.split(",")),
    )


def next_time(trigger: BaseTrigger, previous: datetime | None, now: datetime) -> datetime | None:
    """Return when a trigger fires next, or None if it never fires again.

    Args:
        trigger: The trigger.
        previous: When it fired last, or None.
        now: The earliest time to return.
    """
    found: datetime | None = trigger.get_next_fire_time(previous, now)
    return found


def _name_weekdays(part: str) -> str:
    """Return weekdays by name.

    In crontab(5) both 0 and 7 are Sunday. For APScheduler 0 is Monday.
    """
    match = _DAY_NUMBERS.fullmatch(part)
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
    return ",".join(_DAYS[number] for number in range(first, last + 1, step))

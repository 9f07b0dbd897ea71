"""When a schedule fires: APScheduler's triggers do the arithmetic, time zones and daylight saving time included."""

import re
from datetime import datetime
from typing import Any

from apscheduler.triggers.base import BaseTrigger
from apscheduler.triggers.cron import CronTrigger
from apscheduler.triggers.date import DateTrigger
from apscheduler.triggers.interval import IntervalTrigger

from core.tasks.errors import InvalidTask

_KINDS = {"cron": CronTrigger, "interval": IntervalTrigger, "date": DateTrigger}
_DAYS = ("sun", "mon", "tue", "wed", "thu", "fri", "sat", "sun")
_DAY_NUMBERS = re.compile(r"(\d)(?:-(\d))?(?:/(\d+))?")


def make_trigger(kind: str, timezone: str, /, **arguments: Any) -> BaseTrigger:
    """A trigger of APScheduler.

    Args:
        kind: `cron`, `interval` or `date`.
        timezone: In which its times are, such as `Europe/Berlin`.
        **arguments: Those of the trigger: `hour=9, minute=0`, `hours=1`, `run_date="2027-01-01"`.

    Raises:
        InvalidTask: An argument does not fit; the message says which.
    """
    try:
        return _KINDS[kind](timezone=timezone, **arguments)
    except KeyError as error:
        kinds = ", ".join(_KINDS)
        raise InvalidTask(f"a trigger is one of {kinds}, and time zones are known by name: {error}") from None
    except (ValueError, TypeError) as error:
        raise InvalidTask(f"{kind} trigger: {error}") from None


def crontab_trigger(expression: str, timezone: str) -> BaseTrigger:
    """The trigger of a crontab line of five fields.

    Raises:
        InvalidTask: It is no such line.
    """
    fields = expression.split()
    if len(fields) != 5:
        raise InvalidTask(f"a crontab has five fields (minute hour day month weekday), not {expression!r}")
    minute, hour, day, month, weekday = fields
    names = ",".join(_weekdays(part) for part in weekday.split(","))
    return make_trigger("cron", timezone, minute=minute, hour=hour, day=day, month=month, day_of_week=names)


def next_time(trigger: BaseTrigger, previous: datetime | None, now: datetime) -> datetime | None:
    """When a trigger fires next, or None where it does not any more."""
    found: datetime | None = trigger.get_next_fire_time(previous, now)
    return found


def _weekdays(part: str) -> str:
    """Days by name: in a crontab 0 and 7 are Sunday (crontab(5)), to APScheduler 0 is Monday."""
    if not (match := _DAY_NUMBERS.fullmatch(part)):
        return part
    first = int(match[1])
    last = int(match[2]) if match[2] else (6 if match[3] else first)
    if max(first, last) > 7 or last < first:
        raise InvalidTask(f"a weekday is 0 to 7 or a name, not {part!r}")
    return ",".join(_DAYS[number] for number in range(first, last + 1, int(match[3] or 1)))

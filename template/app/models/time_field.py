"""Times that a query compares with text, such as `Order.created_at >= "2027-01-31"`."""

from datetime import UTC, date, datetime, time
from typing import Any

from beanie.odm.fields import ExpressionField
from beanie.operators import GT, GTE, LT, LTE


class TimeField(ExpressionField):
    """A time in a query. Text is read as a day or a time, in ISO format and in UTC.

    Without this, MongoDB compares a time with text, and finds nothing.
    """

    def __ge__(self, other: object) -> Any:
        return GTE(self, _read(other, time.min))

    def __lt__(self, other: object) -> Any:
        return LT(self, _read(other, time.min))

    def __le__(self, other: object) -> Any:
        return LTE(self, _read(other, time.max))

    def __gt__(self, other: object) -> Any:
        return GT(self, _read(other, time.max))


def _read(value: object, time_of_day: time) -> object:
    """Return text and days as times. A day becomes its start or its end."""
    if isinstance(value, str):
        value = _parse(value)
    if isinstance(value, date) and not isinstance(value, datetime):
        return datetime.combine(value, time_of_day, UTC)
    return value


def _parse(text: str) -> date:
    try:
        return date.fromisoformat(text)
    except ValueError:
        moment = datetime.fromisoformat(text)
        return moment if moment.tzinfo else moment.replace(tzinfo=UTC)

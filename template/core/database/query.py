"""MongoDB queries from optional filters."""

from datetime import datetime
from typing import Any


def make_query(
    time_field: str,
    since: datetime | None,
    until: datetime | None,
    **values: Any,
) -> dict[str, Any]:
    """Return a MongoDB query for a period and for exact values.

    Args:
        time_field: The field that `since` and `until` limit.
        since: The earliest time, inclusive, or None for no limit.
        until: The latest time, exclusive, or None for no limit.
        **values: The values of other fields. None matches any value.
    """
    period = _without_none({"$gte": since, "$lt": until})
    query = _without_none(values)
    if period:
        query[time_field] = period
    return query


def _without_none(values: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in values.items() if value is not None}

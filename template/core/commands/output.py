"""The output of commands: tables for terminals, plain text for pipes, and JSON."""

import sys
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from typing import Any, TypeAlias

GAP = "  "

QUEUE_OFF = "The job queue is off, so only the console shows unfinished jobs."

Columns: TypeAlias = Mapping[str, Callable[[Any], str]]
"""The headings of a table, and the function that makes each cell from an item."""


def print_list(items: Sequence[Any], columns: Columns, if_empty: str, as_json: bool) -> None:
    """Print items as a table, or as a JSON document.

    Args:
        items: The items.
        columns: The columns of the table.
        if_empty: The sentence that a person reads if there are no items.
        as_json: Whether to print JSON.
    """
    if as_json:
        print_json(items)
    elif not items:
        # Not to standard output, so a pipe stays empty.
        tell(if_empty)
    else:
        rows = [
            [clean(make(item)).replace("\n", " ") for make in columns.values()] for item in items
        ]
        _print_rows([*columns], rows)


def print_json(data: Any) -> None:
    """Print one JSON document, with times in ISO 8601.

    Args:
        data: Plain values, dataclasses and models.
    """
    from pydantic_core import to_json

    print(to_json(data, indent=2, by_alias=False).decode())


def print_fields(fields: Mapping[str, object]) -> None:
    """Print the fields of one thing, a line each. Fields without a value are left out.

    Args:
        fields: The names and the values.
    """
    for name, value in fields.items():
        if value is not None:
            text = format_time(value) if isinstance(value, datetime) else str(value)
            print(f"{name}: {clean(text)}")


def tell(text: str) -> None:
    """Print a message for a person to standard error.

    Args:
        text: The message.
    """
    print(text, file=sys.stderr)


def _print_rows(headings: list[str], rows: list[list[str]]) -> None:
    if sys.stdout.isatty():
        # Not at the top: the import takes a tenth of a second.
        from core.commands.table import print_table

        print_table(headings, rows)
        return
    lines = [headings, *rows]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    for cells in lines:
        padded = [cell.ljust(width) for cell, width in zip(cells, widths, strict=True)]
        print(GAP.join(padded).rstrip())


def clean(text: str) -> str:
    """Return a text without characters that control a terminal.

    Args:
        text: The text. Its lines are kept.
    """
    return "".join(each if each.isprintable() or each in "\n\t" else "?" for each in text)


def format_time(time: datetime | None) -> str:
    """Return a time in the time zone of this machine, or `never`. In a terminal, it is short.

    Args:
        time: The time.
    """
    if time is None:
        return "never"
    local = time.astimezone()
    if not sys.stdout.isatty():
        return local.strftime("%Y-%m-%d %H:%M:%S %Z")
    is_today = local.date() == datetime.now().date()
    return local.strftime("%H:%M:%S" if is_today else "%Y-%m-%d %H:%M")


def format_duration(seconds: float | None) -> str:
    """Return a duration with its unit, such as `25 ms`, or an empty text.

    Args:
        seconds: The duration in seconds.
    """
    from core.tasks.backlog import say_seconds

    return "" if seconds is None else say_seconds(seconds)


def first_line(text: str | None) -> str:
    """Return a text's first line, which may be empty.

    Args:
        text: The text.
    """
    first, *_ = (text or "").splitlines() or [""]
    return first

"""Tables of the commands: headings and aligned columns, the same in a terminal and in a pipe."""

from collections.abc import Iterable, Sequence
from datetime import datetime

GAP = "  "


def format_table(headings: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    """Return the lines of a table; no lines if it has no rows.

    Args:
        headings: The headings of the columns.
        rows: The cells of each row.
    """
    lines = [headings, *rows]
    if len(lines) == 1:
        return []
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    return [_format_line(cells, widths) for cells in lines]


def _format_line(cells: Sequence[str], widths: Sequence[int]) -> str:
    padded = [cell.ljust(width) for cell, width in zip(cells, widths, strict=True)]
    return GAP.join(padded).rstrip()


def format_time(time: datetime | None) -> str:
    """Return a time in the time zone of this machine, with its name, or `never`.

    Args:
        time: The time.
    """
    if time is None:
        return "never"
    return time.astimezone().strftime("%Y-%m-%d %H:%M:%S %Z")


def first_line(text: str, length: int = 100) -> str:
    """Return the start of a text's first line, which may be empty.

    Args:
        text: The text.
        length: The largest number of characters.
    """
    first, *_ = text.splitlines() or [""]
    return first[:length]

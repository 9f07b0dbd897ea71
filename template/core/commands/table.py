"""Tables that fit in a terminal. A pipe needs no rich, so only a terminal imports this module."""

from collections.abc import Iterator, Mapping, Sequence
from itertools import zip_longest

from rich.cells import cell_len
from rich.console import Console
from rich.text import Text

GAP = "  "
LEAST_WIDTHS = {"ERROR": 20, "REMARK": 20, "NEXT STEP": 20, "FOUND": 20}
"""The columns that get narrower, with their least widths."""
CUT = {"ERROR", "REMARK"}
"""The columns whose cells have one line. The lines of other cells are folded."""
MOVED_FIRST = ("ERROR", "REMARK", "OWNER", "WORKER", "ATTEMPT", "VERSION")
"""The columns that a narrow terminal prints below the row before it does so with others."""
TASK_WIDTH = 12
"""The least width of the first column if it has the names of tasks, which are then folded."""
ID_LENGTH = 8
"""The length of a worker's name, as in log lines for people."""
STYLES = {
    "completed": "green",
    "enabled": "green",
    "ok": "green",
    "running": "cyan",
    "retried": "yellow",
    "warning": "yellow",
    "broken": "red",
    "failed": "red",
    "problem": "red",
}
"""The colours of states."""


def print_table(headings: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Print a table. Columns without a value are left out; no id is cut.

    Args:
        headings: The headings of the columns.
        rows: The cells of each row.
    """
    console = Console()
    columns = dict(zip(headings, zip(*rows, strict=True), strict=True))
    columns = {heading: cells for heading, cells in columns.items() if any(cells)}
    if "WORKER" in columns:
        columns["WORKER"] = tuple(cell[:ID_LENGTH] for cell in columns["WORKER"])
    widths = _find_widths(columns, console.width)
    titles = {heading: Text(heading, "bold") for heading in widths}
    for line in _lay_row(console, titles, widths):
        console.print(line, soft_wrap=True)
    for row in zip(*columns.values(), strict=True):
        texts = {
            heading: Text(cell, STYLES.get(cell, ""))
            for heading, cell in zip(columns, row, strict=True)
        }
        for line in (*_lay_row(console, texts, widths), *_lay_rest(console, texts, widths)):
            console.print(line, soft_wrap=True)


def _find_widths(columns: Mapping[str, Sequence[str]], width: int) -> dict[str, int]:
    """Return the widths of the columns that fit. The other columns go below each row."""
    natural = {heading: max(map(cell_len, (heading, *cells))) for heading, cells in columns.items()}
    first, *others = natural
    least = {**LEAST_WIDTHS, first: TASK_WIDTH} if first == "TASK" else LEAST_WIDTHS
    moved = [heading for heading in MOVED_FIRST if heading in others]
    last = [heading for heading in reversed(others) if heading not in moved]
    for heading in (*moved, *last):
        widths = _shrink(natural, least, width)
        if _sum(widths) <= width:
            return widths
        del natural[heading]
    return _shrink(natural, least, width)


def _shrink(natural: Mapping[str, int], least: Mapping[str, int], width: int) -> dict[str, int]:
    """Return widths with a sum that fits if possible. The widest column gets narrower first."""
    widths = dict(natural)
    while _sum(widths) > width:
        wide = [each for each in widths if widths[each] > least.get(each, widths[each])]
        if not wide:
            break
        widths[max(wide, key=widths.__getitem__)] -= 1
    return widths


def _sum(widths: Mapping[str, int]) -> int:
    return sum(widths.values()) + len(GAP) * (len(widths) - 1)


def _lay_row(
    console: Console, texts: Mapping[str, Text], widths: Mapping[str, int]
) -> Iterator[Text]:
    """Yield the lines of a row."""
    columns = []
    for heading, width in widths.items():
        text = texts[heading].copy()
        if heading in CUT:
            text.truncate(width, overflow="ellipsis")
        columns.append(list(text.wrap(console, width, overflow="fold")))
    for parts in zip_longest(*columns):
        line = Text()
        for part, width in zip(parts, widths.values(), strict=True):
            cell = part or Text()
            cell.pad_right(width - cell.cell_len)
            line.append_text(cell).append(GAP)
        line.rstrip()
        yield line


def _lay_rest(
    console: Console, texts: Mapping[str, Text], widths: Mapping[str, int]
) -> Iterator[Text]:
    """Yield the lines below a row. They name and show the cells that did not fit in it."""
    rest = {
        heading: f"{heading} {text.plain}"
        for heading, text in texts.items()
        if heading not in widths and text.plain
    }
    width = console.width - len(GAP)
    facts = Text(GAP.join(text for heading, text in rest.items() if heading not in CUT))
    lines = list(facts.wrap(console, width)) if facts else []
    for heading in CUT & rest.keys():
        lines.append(Text(rest[heading]))
        lines[-1].truncate(width, overflow="ellipsis")
    for line in lines:
        yield Text(GAP).append_text(line)

"""Log lines for people: time, level, process, task, event, other values, and short ids.

`LOG_FORMAT=console` chooses this form. `LOG_FORMAT=json` keeps every field unchanged.
"""

import re

from structlog.dev import (
    Column,
    ColumnFormatter,
    ConsoleRenderer,
    KeyValueColumnFormatter,
)
from structlog.typing import EventDict, WrappedLogger

from core.logging.tracebacks import print_traceback

TIME_FORMAT = "%H:%M:%S"
LEVEL_WIDTH = 7
PROCESS_WIDTH = 6
ID = re.compile(r"[0-9a-f]{32}")
"""The ids that `core` makes. Other ids were chosen by a person, and are not shortened."""
ID_LENGTH = 8

ID_NAMES = {"job_id": "job", "correlation_id": "correlation", "trace_id": "trace"}
"""The fields at the end of a line, and their names there."""
REQUEST = ("event", "method", "path", "status")
"""The fields of a request that are printed without their names."""


def shorten(_: WrappedLogger, __: str, event: EventDict) -> EventDict:
    """Prepare an event for a short line; a structlog processor."""
    event["event"] = str(event["event"]).strip()
    logger = event.pop("logger", "")
    task = event.pop("task", None)
    is_of_core = logger.startswith("core.")
    source = task or ("" if is_of_core else logger)
    if source:
        event["source"] = f"{source}:"
    if is_of_core:
        _shorten_own(event, logger)
    if "job_id" in event and event.get("attempt") == 1:
        del event["attempt"]
    for name, short_name in ID_NAMES.items():
        if name in event:
            event[short_name] = _shorten_id(event.pop(name))
    return event


def _shorten_own(event: EventDict, logger: str) -> None:
    """Shorten the events that every service logs."""
    if logger == "core.web.access_log":
        event["event"] = " ".join(str(event.pop(name)) for name in REQUEST)
    if event["event"] == "worker started":
        event["tasks"] = len(event["tasks"])


def _shorten_id(value: object) -> object:
    text = str(value)
    return text[:ID_LENGTH] if ID.fullmatch(text) else value


def console_renderer(colors: bool) -> ConsoleRenderer:
    """Return a renderer of lines for people.

    Args:
        colors: Whether to print colors.
    """
    renderer = ConsoleRenderer(
        colors=colors,
        exception_formatter=print_traceback,
        sort_keys=False,
    )
    styles = ConsoleRenderer.get_default_column_styles(colors)

    def plain(style: str, width: int = 0) -> ColumnFormatter:
        return KeyValueColumnFormatter(None, style, styles.reset, str, width)

    # The column without a name formats all other values.
    others = [column for column in renderer.columns if not column.key]
    renderer.columns = [
        *others,
        Column("timestamp", plain(styles.timestamp)),
        Column("level", _level_format(colors, styles.reset)),
        Column("process", plain("", PROCESS_WIDTH)),
        Column("source", plain(styles.logger_name)),
        Column("event", plain(styles.bright)),
        Column("seconds", _format_seconds),
    ]
    return renderer


def _level_format(colors: bool, reset: str) -> ColumnFormatter:
    styles = ConsoleRenderer.get_default_level_styles(colors)

    def format_level(key: str, value: object) -> str:
        level = str(value)
        return f"{styles.get(level, '')}{level:<{LEVEL_WIDTH}}{reset}"

    return format_level


def _format_seconds(key: str, value: object) -> str:
    return f"{value}s"

"""Logging through the standard library's loggers, rendered by structlog, with correlation ids."""

import json
import logging
import logging.config
import sys
from contextlib import suppress
from types import NoneType
from typing import Any

import structlog
from pydantic_core import PydanticSerializationError, to_json
from structlog.typing import EventDict, Processor, WrappedLogger

from core.config import Settings
from core.context import TaskContext
from core.logging.console import TIME_FORMAT, console_renderer, shorten
from core.logging.direct import Write, write_directly
from core.logging.masking import mask
from core.logging.stderr import StderrHandler

LIBRARY_LEVELS = {
    "httpx2": {"level": "WARNING"},
    "uvicorn": {"level": "WARNING"},
    "pymongo": {"level": "WARNING"},
}
"""The levels of libraries whose lines only repeat what this service logs."""

_JSON = json.JSONEncoder(default=repr, ensure_ascii=False, separators=(",", ":"))
_PLAIN = frozenset({str, int, float, bool, NoneType})

is_configured = structlog.is_configured
"""Return whether this process has configured its log."""

get_logger = structlog.stdlib.get_logger
"""Return a logger: `logger = get_logger(__name__)`.

Pass the event's values by name, as in `logger.info("order paid", order_id=7)`.
"""


def add_correlation_id(_: WrappedLogger, __: str, event: EventDict) -> EventDict:
    """Add the current correlation id to an event; a structlog processor."""
    correlation_id = TaskContext.get_correlation_id()
    if correlation_id:
        event["correlation_id"] = correlation_id
    return event


def _mask_line(_: WrappedLogger, __: str, line: str) -> str:
    """Mask a finished line; the last structlog processor."""
    return mask(line)


def configure_logging(settings: Settings, process: str, is_command: bool = False) -> None:
    """Send all log lines of this process to standard error, in one format.

    Args:
        settings: The settings with the level and the format.
        process: The process in each line, such as `web` or `worker`.
        is_command: Whether a person waits for the output. Warnings of `core` are then left out,
            because the command itself says what is wrong.
    """

    def add_process(_: WrappedLogger, __: str, event: EventDict) -> EventDict:
        event["process"] = process
        return event

    _skip_unused_fields()
    for_people = _is_for_people(settings)
    shared: list[Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_logger_name,
        structlog.stdlib.add_log_level,
        structlog.stdlib.ExtraAdder(),
        _time_stamper(for_people),
        add_process,
        add_correlation_id,
    ]
    level = settings.log_level
    levels = LIBRARY_LEVELS
    if is_command and level == "INFO":
        level = "WARNING"
        levels = {**levels, "core": {"level": "ERROR"}}
    config = _standard_library_config(shared, for_people)
    # A person waits for a command anyway, and its own output must come after its log lines.
    handler = logging.StreamHandler if is_command else StderrHandler
    config["handlers"] = {"stderr": {"()": handler, "formatter": "structured"}}
    config |= {"root": {"handlers": ["stderr"], "level": level}, "loggers": levels}
    logging.config.dictConfig(config)
    (root_handler,) = logging.getLogger().handlers
    if isinstance(root_handler, StderrHandler) and not for_people:
        write_directly(_make_writer(root_handler, shared))
    else:
        write_directly(None)
    structlog.configure(
        processors=[
            structlog.stdlib.filter_by_level,
            *shared,
            structlog.stdlib.ProcessorFormatter.wrap_for_formatter,
        ],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=True,
    )


def _make_writer(handler: StderrHandler, shared: list[Processor]) -> Write:
    """Return a function that writes a line as the handler and its formatter would."""
    of_logger = (structlog.stdlib.add_logger_name, structlog.stdlib.add_log_level)
    processors = [each for each in shared if each not in of_logger]

    def write(name: str, event: str, values: dict[str, Any]) -> None:
        line: EventDict = {**values, "event": event}
        for process in processors:
            process(None, "info", line)
        line.update(logger=name, level="info")
        handler.write(mask(_dump(line)))

    return write


def _dump(line: EventDict) -> str:
    """Return a line as JSON. A value that JSON does not have becomes its `repr`."""
    if _PLAIN.issuperset(map(type, line.values())):
        with suppress(PydanticSerializationError):  # half of a surrogate pair
            return to_json(line).decode()  # three times as fast
    return _JSON.encode(line)


def _skip_unused_fields() -> None:
    """Let the standard library skip what no line shows; see "Optimization" in its logging HOWTO."""
    logging.logThreads = logging.logProcesses = logging.logMultiprocessing = False
    logging._srcfile = None


def _standard_library_config(shared: list[Processor], for_people: bool) -> dict[str, Any]:
    formatter = {
        "()": structlog.stdlib.ProcessorFormatter,
        "foreign_pre_chain": shared,
        "processors": [
            structlog.stdlib.ProcessorFormatter.remove_processors_meta,
            *_renderers(for_people),
            _mask_line,
        ],
    }
    return {
        "version": 1,
        "disable_existing_loggers": False,
        "formatters": {"structured": formatter},
    }


def _is_for_people(settings: Settings) -> bool:
    default = "json" if settings.is_production else "console"
    return (settings.log_format or default) == "console"


def _time_stamper(for_people: bool) -> Processor:
    if for_people:
        return structlog.processors.TimeStamper(fmt=TIME_FORMAT, utc=False)
    return structlog.processors.TimeStamper(fmt="iso", utc=True)


def _renderers(for_people: bool) -> list[Processor]:
    if for_people:
        return [shorten, console_renderer(colors=sys.stderr.isatty())]
    renderer = structlog.processors.JSONRenderer(lambda event, **_: _dump(event))
    return [structlog.processors.format_exc_info, renderer]

"""Logging: the standard library's loggers, rendered by structlog, each line with its correlation id."""

import json
import logging
import logging.config
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar

import structlog
from structlog.typing import EventDict, Processor, WrappedLogger

from core.config import Settings
from core.context import TaskContext

__all__ = ["get_logger"]

MASK = "***"
"""What is shown in place of something sensitive."""

_masked: ContextVar[tuple[str, ...]] = ContextVar("masked", default=())

get_logger = structlog.stdlib.get_logger
"""Return a logger: `logger = get_logger(__name__)`. It takes what belongs to an event by name, as in
`logger.info("order paid", order_id=7)`."""


def console_renderer(colors: bool) -> Processor:
    """Lines for people. Tracebacks without the values of variables, which may be secret."""
    return structlog.dev.ConsoleRenderer(
        colors=colors, exception_formatter=structlog.dev.plain_traceback
    )


def add_correlation_id(_: WrappedLogger, __: str, event: EventDict) -> EventDict:
    """A processor of structlog."""
    if correlation_id := TaskContext.get_correlation_id():
        event["correlation_id"] = correlation_id
    return event


@contextmanager
def masking() -> Iterator[None]:
    """What `mask_texts` is told inside this block is forgotten at its end."""
    token = _masked.set(())
    try:
        yield
    finally:
        _masked.reset(token)


def mask_texts(texts: Iterable[str]) -> None:
    """Do not show these texts in log lines from here on, whoever writes them."""
    # Also as they stand in JSON and in `repr`; the longest first, since one may be a part of another.
    forms = {form for text in texts for form in (text, json.dumps(text)[1:-1], repr(text)[1:-1])}
    _masked.set(tuple(sorted({*_masked.get(), *forms}, key=len, reverse=True)))


def mask(text: str) -> str:
    """A text without what `mask_texts` was told."""
    for masked in _masked.get():
        text = text.replace(masked, MASK)
    return text


def _mask_line(_: WrappedLogger, __: str, line: str) -> str:
    """The last processor of structlog: what it gets is the finished line."""
    return mask(line)


def configure_logging(settings: Settings, process: str) -> None:
    """Send every log line of this process to standard error, in one form.

    Args:
        settings: Decides level and form.
        process: `web` or `worker`; part of each line.
    """
    as_json = (settings.log_format or ("json" if settings.is_production else "console")) == "json"

    def add_process(_: WrappedLogger, __: str, event: EventDict) -> EventDict:
        event["process"] = process
        return event

    shared: list[Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_logger_name,
        structlog.stdlib.add_log_level,
        structlog.stdlib.ExtraAdder(),
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        add_process,
        add_correlation_id,
    ]
    rendering: list[Processor] = (
        [structlog.processors.format_exc_info, structlog.processors.JSONRenderer()]
        if as_json
        else [console_renderer(colors=sys.stderr.isatty())]
    )
    logging.config.dictConfig(
        {
            "version": 1,
            "disable_existing_loggers": False,
            "formatters": {
                "structured": {
                    "()": structlog.stdlib.ProcessorFormatter,
                    "foreign_pre_chain": shared,
                    "processors": [
                        structlog.stdlib.ProcessorFormatter.remove_processors_meta,
                        *rendering,
                        _mask_line,
                    ],
                }
            },
            "handlers": {"stderr": {"class": "logging.StreamHandler", "formatter": "structured"}},
            "root": {"handlers": ["stderr"], "level": settings.log_level},
            # Quiet where they only repeat what this service logs itself, once a request or a message.
            "loggers": {
                "coredis": {"level": "CRITICAL"},
                "httpx2": {"level": "WARNING"},
                "uvicorn": {"level": "WARNING"},
                "pymongo": {"level": "WARNING"},
                "streaq": {"level": "WARNING"},
            },
        }
    )
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

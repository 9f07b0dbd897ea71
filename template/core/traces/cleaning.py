"""Spans without sensitive values, queries of URLs and addresses of clients."""

import re
from collections.abc import Mapping

from opentelemetry.context import Context
from opentelemetry.sdk.trace import Event, ReadableSpan, Span, SpanProcessor
from opentelemetry.trace import Status
from opentelemetry.util.types import Attributes, AttributeValue

from core.logging import mask

HIDDEN = frozenset(
    {
        "client.address",
        "client.port",
        "http.client_ip",
        "net.peer.ip",
        "net.sock.peer.addr",
        "url.query",
    }
)
"""The attributes that are left out. The log has no addresses of clients either."""
QUERY = re.compile(r"[?#].*", re.DOTALL)


class CleaningProcessor(SpanProcessor):
    """Cleans each span at its end, in the context of the code that made it.

    The context has the sensitive values, which are masked as in log lines.

    Args:
        processor: Takes the cleaned spans.
    """

    def __init__(self, processor: SpanProcessor) -> None:
        self._processor = processor

    def on_start(self, span: Span, parent_context: Context | None = None) -> None:
        """Pass the start of a span on."""
        self._processor.on_start(span, parent_context)

    def on_end(self, span: ReadableSpan) -> None:
        """Pass a cleaned span on."""
        self._processor.on_end(clean(span))

    def shutdown(self) -> None:
        """Send all spans, and end."""
        self._processor.shutdown()

    def force_flush(self, timeout_millis: int = 30000) -> bool:
        """Send all spans."""
        return self._processor.force_flush(timeout_millis)


def clean(span: ReadableSpan) -> ReadableSpan:
    """Return a span without sensitive values, queries of URLs and addresses of clients.

    Args:
        span: The span, which has ended.
    """
    status = span.status
    description = status.description and mask(status.description)
    return ReadableSpan(
        name=mask(span.name),
        context=span.context,
        parent=span.parent,
        resource=span.resource,
        attributes=_clean_all(span.attributes),
        events=[_clean_event(event) for event in span.events],
        links=span.links,
        kind=span.kind,
        status=Status(status.status_code, description),
        start_time=span.start_time,
        end_time=span.end_time,
        instrumentation_scope=span.instrumentation_scope,
    )


def _clean_event(event: Event) -> Event:
    return Event(event.name, _clean_all(event.attributes), event.timestamp)


def _clean_all(attributes: Attributes) -> Mapping[str, AttributeValue]:
    found = (attributes or {}).items()
    return {name: _clean(name, value) for name, value in found if name not in HIDDEN}


def _clean(name: str, value: AttributeValue) -> AttributeValue:
    if isinstance(value, str):
        # A query or a fragment may contain a token, for example of an emailed link.
        is_url = "url" in name or name == "http.target"
        return mask(QUERY.sub("", value) if is_url else value)
    if isinstance(value, (list, tuple)):
        return [mask(each) if isinstance(each, str) else each for each in value]
    return value

"""The span of a run of a job, and spans as text."""

from collections.abc import Mapping, Sequence

from opentelemetry.context import Context, attach
from opentelemetry.trace import (
    Link,
    SpanContext,
    SpanKind,
    StatusCode,
    Tracer,
    format_trace_id,
    get_current_span,
    set_span_in_context,
)
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

_propagator = TraceContextTextMapPropagator()


class JobSpan:
    """The span of a run of a job. It is the current span until the context of the run ends.

    Args:
        tracer: Makes the span.
        task: The task's name.
        parent: The span of the code that enqueued the job, or None.
        links: Spans of earlier runs, or None. A span that cannot be read is left out.
        attributes: The attributes of the span.

    Attributes:
        traceparent: The span as text.
        trace_id: The trace's id, as log lines show it.
    """

    def __init__(
        self,
        tracer: Tracer,
        task: str,
        parent: str | None,
        links: Sequence[str | None],
        attributes: Mapping[str, str | int],
    ) -> None:
        context = read_traceparent(parent)
        self._span = tracer.start_span(
            f"job {task}",
            context,
            SpanKind.CONSUMER,
            attributes,
            [*_make_links(links)],
        )
        attach(set_span_in_context(self._span, context))
        span = self._span.get_span_context()
        self.traceparent = format_traceparent(span)
        self.trace_id = format_trace_id(span.trace_id)

    def end(self, ended_as: str, error: str | None = None) -> None:
        """End the span, unless it has ended. An abandoned attempt calls this twice.

        Args:
            ended_as: How the run ended.
            error: The error in one line without sensitive values, or None.
        """
        if not self._span.is_recording():
            return
        self._span.set_attribute("job.ended_as", ended_as)
        if error:
            self._span.set_status(StatusCode.ERROR, error)
        self._span.end()


def _make_links(links: Sequence[str | None]) -> list[Link]:
    contexts = [get_current_span(read_traceparent(each)).get_span_context() for each in links]
    return [Link(context) for context in contexts if context.is_valid]


def read_traceparent(traceparent: str | None) -> Context:
    """Return a context with a span. It is empty if the text has another form.

    Args:
        traceparent: The span as text, or None.
    """
    if not traceparent:
        return Context()
    return _propagator.extract({"traceparent": traceparent}, Context())


def format_traceparent(span: SpanContext) -> str:
    """Return a span in the form of the header `traceparent` (W3C Trace Context).

    Args:
        span: The span's ids.
    """
    return f"00-{span.trace_id:032x}-{span.span_id:016x}-{span.trace_flags:02x}"

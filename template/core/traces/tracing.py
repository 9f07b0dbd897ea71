"""The tracer of this process, its instrumentation and its exporter."""

import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager

from opentelemetry import trace
from opentelemetry.context import attach
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.instrumentation.httpx import HTTPX2ClientInstrumentor
from opentelemetry.instrumentation.pymongo import PymongoInstrumentor
from opentelemetry.instrumentation.utils import suppress_http_instrumentation
from opentelemetry.sdk.resources import SERVICE_NAME, Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.trace import Span, SpanKind, StatusCode
from pymongo.monitoring import CommandFailedEvent

from core.traces.cleaning import CleaningProcessor
from core.traces.reporting import ReportingExporter
from core.traces.sampling import InTraceSampler
from core.traces.spans import JobSpan, format_traceparent, read_traceparent

UNKNOWN_SERVICE = "unknown_service"
"""The beginning of the name that OpenTelemetry gives a service without a name."""
FIRST_ERROR_STATUS = 400


class Tracing:
    """The tracing of this process. OpenTelemetry reads its own variables.

    Args:
        attributes: The attributes of the process. `OTEL_SERVICE_NAME` and
            `OTEL_RESOURCE_ATTRIBUTES` replace the name of the service.
        export_seconds: The longest time to send spans, with all tries. None stands for
            `OTEL_EXPORTER_OTLP_TIMEOUT`.

    Raises:
        ValueError: A variable of OpenTelemetry has a wrong value.
    """

    def __init__(self, attributes: Mapping[str, str], export_seconds: float | None) -> None:
        # `stop` has a limit. OpenTelemetry's own end of the process would wait for 30 s.
        self._provider = TracerProvider(resource=_make_resource(attributes), shutdown_on_exit=False)
        self._provider.sampler = InTraceSampler(self._provider.sampler)
        batches = BatchSpanProcessor(ReportingExporter(OTLPSpanExporter(timeout=export_seconds)))
        self._provider.add_span_processor(CleaningProcessor(batches))
        trace.set_tracer_provider(self._provider)
        self._tracer = self._provider.get_tracer("core")
        PymongoInstrumentor().instrument(failed_hook=_hide_values)
        HTTPX2ClientInstrumentor().instrument()

    def stop(self, seconds: float) -> bool:
        """Send the spans that have ended, and return whether that took less than the limit.

        Args:
            seconds: The limit.
        """
        stopping = threading.Thread(target=self._provider.shutdown, name="traces", daemon=True)
        stopping.start()
        stopping.join(seconds)
        return not stopping.is_alive()

    def current_traceparent(self) -> str | None:
        """Return the current span as text, or None outside of spans."""
        span = trace.get_current_span().get_span_context()
        return format_traceparent(span) if span.is_valid else None

    def start_job_span(
        self,
        task: str,
        parent: str | None,
        links: Sequence[str | None],
        attributes: Mapping[str, str | int],
    ) -> JobSpan:
        """Start the span of a run of a job; see `JobSpan`."""
        return JobSpan(self._tracer, task, parent, links, attributes)

    def continue_trace(self, traceparent: str) -> None:
        """Make a span of another process the parent of the spans of this context.

        Args:
            traceparent: The span as text.
        """
        attach(read_traceparent(traceparent))

    @contextmanager
    def public_request(
        self, method: str, host: str, port: int | None
    ) -> Iterator[Callable[[int], None]]:
        """Make a span of a request, and send no trace id with it.

        Args:
            method: The request's method.
            host: The host.
            port: The port, or None for the usual one.

        Yields:
            A function that takes the status of the answer.
        """
        attributes: dict[str, str | int] = {"http.request.method": method, "server.address": host}
        if port is not None:
            attributes["server.port"] = port
        with (
            self._tracer.start_as_current_span(method, None, SpanKind.CLIENT, attributes) as span,
            suppress_http_instrumentation(),
        ):

            def note_status(status: int) -> None:
                span.set_attribute("http.response.status_code", status)
                if status >= FIRST_ERROR_STATUS:
                    span.set_status(StatusCode.ERROR)

            yield note_status


def _make_resource(attributes: Mapping[str, str]) -> Resource:
    """Return the attributes of this process. OpenTelemetry's variables take precedence."""
    named = Resource.create()
    if str(named.attributes[SERVICE_NAME]).startswith(UNKNOWN_SERVICE):
        return named.merge(Resource(attributes))
    return Resource(attributes).merge(named)


def _hide_values(span: Span, event: CommandFailedEvent) -> None:
    """Replace the server's message, which may contain values of documents, by its short name."""
    failure = event.failure
    span.set_status(StatusCode.ERROR, str(failure.get("codeName", failure.get("code", ""))))

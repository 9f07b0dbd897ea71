"""One log line when the collector begins to fail, and one when it takes spans again."""

import logging
from collections.abc import Sequence

from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import SpanExporter, SpanExportResult

from core.logging import get_logger

logger = get_logger(__name__)

REASON_LENGTH = 300


class ReportingExporter(SpanExporter):
    """Sends spans, and logs one line for each change. The exporter itself logs more for each batch.

    Args:
        exporter: Sends the spans.
    """

    def __init__(self, exporter: OTLPSpanExporter) -> None:
        self._exporter = exporter
        self._fails = False
        self._lines = _Lines()
        logging.getLogger(type(exporter).__module__).addFilter(self._lines)

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        """Send spans, and return whether the collector took them."""
        self._lines.first = ""
        result = self._exporter.export(spans)
        fails = result is not SpanExportResult.SUCCESS
        if fails and not self._fails:
            logger.warning("spans are lost: the collector fails", reason=self._lines.first)
        elif self._fails and not fails:
            logger.info("the collector takes spans again")
        self._fails = fails
        return result

    def shutdown(self) -> None:
        """End the exporter."""
        self._exporter.shutdown()  # type: ignore[no-untyped-call]

    def force_flush(self, timeout_millis: int = 30000) -> bool:
        """Do nothing: the exporter keeps no spans."""
        return True


class _Lines(logging.Filter):
    """Drops the log lines of the exporter, and keeps the text of the first one."""

    first = ""

    def filter(self, record: logging.LogRecord) -> bool:
        self.first = self.first or record.getMessage()[:REASON_LENGTH]
        return False

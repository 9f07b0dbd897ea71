"""Traces of requests. FastAPI makes their spans, once a process has a tracer provider."""

import structlog
from fastapi.telemetry import TelemetryConfig
from opentelemetry.trace import format_trace_id, get_current_span
from starlette.types import ASGIApp, Receive, Scope, Send

from core.context import TaskContext
from core.web.access_log import PROBES


def is_probe(scope: Scope) -> bool:
    """Return whether a request is a health check, which makes no span."""
    return scope["path"] in PROBES


TELEMETRY: TelemetryConfig = {
    "auto_configure": False,
    "metrics": False,
    "logs": False,
    "operation_spans": False,
    "exclude": is_probe,
}
"""The one span of a request. Its name has the path of the route, so the names are few."""


class TraceIdMiddleware:
    """Adds the trace's id to the log lines of a request, and the correlation id to its span.

    Args:
        app: The application to wrap.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        span = get_current_span()
        context = span.get_span_context()
        if not context.is_valid:
            await self._app(scope, receive, send)
            return
        correlation_id = TaskContext.get_correlation_id()
        if correlation_id:
            span.set_attribute("correlation_id", correlation_id)
        with structlog.contextvars.bound_contextvars(trace_id=format_trace_id(context.trace_id)):
            await self._app(scope, receive, send)

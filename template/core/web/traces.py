"""The span of each request. Only a process with traces imports this module."""

import structlog
from opentelemetry.instrumentation.asgi import OpenTelemetryMiddleware
from opentelemetry.trace import Span, get_current_span
from opentelemetry.util.http import sanitize_method
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from core.context import TaskContext
from core.traces.spans import format_trace_id
from core.web.access_log import PROBES


class TracesMiddleware:
    """Makes a span of each request, except of health checks. Its name has the route's path.

    Args:
        app: The application to wrap.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app
        # Otherwise each message of a request and its answer is a span of its own.
        self._traced = OpenTelemetryMiddleware(
            self._describe,
            default_span_details=_name_by_method,
            exclude_spans=["receive", "send"],
        )

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        is_traced = scope["type"] == "http" and scope["path"] not in PROBES
        await (self._traced if is_traced else self._app)(scope, receive, send)

    async def _describe(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Run the application, and describe the request when its route is known."""
        span = get_current_span()

        async def describe_and_send(message: Message) -> None:
            if message["type"] == "http.response.start":
                _describe(span, scope)
            await send(message)

        with structlog.contextvars.bound_contextvars(trace_id=format_trace_id(span)):
            await self._app(scope, receive, describe_and_send)


def _name_by_method(scope: Scope) -> tuple[str, dict[str, str]]:
    """Return the name of a request without a route. A path would make one name for each URL."""
    return sanitize_method(scope["method"]), {}


def _describe(span: Span, scope: Scope) -> None:
    correlation_id = TaskContext.get_correlation_id()
    if correlation_id:
        span.set_attribute("correlation_id", correlation_id)
    route = getattr(scope.get("route"), "path_format", None)
    if route:
        path = scope.get("root_path", "") + route
        span.update_name(f"{sanitize_method(scope['method'])} {path}")
        span.set_attribute("http.route", path)

"""Traces of requests and jobs, sent by OpenTelemetry if an OTLP endpoint is set.

The SDK of OpenTelemetry is imported only then, so traces cost nothing while they are off.
"""

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

from core.config import Settings, read_pyproject
from core.config.env_file import read_env_file
from core.logging import get_logger

if TYPE_CHECKING:
    from core.traces.spans import JobSpan
    from core.traces.tracing import Tracing

logger = get_logger(__name__)

ENDPOINTS = ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT")
PROTOCOLS = ("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "OTEL_EXPORTER_OTLP_PROTOCOL")
PROTOCOL = "http/protobuf"
PREFIX = "OTEL_"
OFF = "traces are off"
MISSING = "the packages for traces are missing. Run `uv add 'core[traces]'`."

FLUSH_SECONDS = 2.0
"""The longest time that a process waits at its end for the collector."""
CHILD_FLUSH_SECONDS = 1.0
CHILD_EXPORT_SECONDS = 0.7
"""Less than the pause before a second try, so a collector that is down delays no job."""

_tracing: "Tracing | None" = None


def is_on() -> bool:
    """Return whether this process makes spans."""
    return _tracing is not None


def start_tracing(settings: Settings, process: str) -> None:
    """Make spans from now on, if an OTLP endpoint is set. Log a problem in one line.

    Args:
        settings: The service's settings.
        process: The process: `web`, `worker` or `child`.
    """
    global _tracing
    _use_env_file()
    name, endpoint = _find(ENDPOINTS)
    is_disabled = os.environ.get("OTEL_SDK_DISABLED", "").strip().lower() == "true"
    if not endpoint or is_disabled or os.environ.get("OTEL_TRACES_EXPORTER") == "none":
        return
    problem = _find_problem(name, endpoint)
    if problem:
        logger.warning(f"{OFF}: {problem}")
        return
    try:
        from core.traces.tracing import Tracing
    except ModuleNotFoundError as error:
        if not (error.name or "").startswith("opentelemetry"):
            raise
        logger.warning(f"{OFF}: {name} is set, but {MISSING}")
        return
    project = read_pyproject()["project"]
    try:
        _tracing = Tracing(
            {
                "service.name": project["name"],
                "service.version": project["version"],
                "deployment.environment.name": settings.environment,
                "process.role": process,
            },
            CHILD_EXPORT_SECONDS if process == "child" else None,
        )
    except ValueError as error:
        logger.warning(f"{OFF}: a variable that begins with {PREFIX} is wrong: {error}")


def stop_tracing(seconds: float = FLUSH_SECONDS) -> None:
    """Send the spans that have ended, and stop making spans.

    Args:
        seconds: The longest time to wait for the collector.
    """
    global _tracing
    if _tracing:
        stopped, _tracing = _tracing, None
        if not stopped.stop(seconds):
            logger.warning("the last spans are lost: the collector did not take them in time")


def current_traceparent() -> str | None:
    """Return the current span in the form of the header `traceparent`, or None."""
    return _tracing.current_traceparent() if _tracing else None


def start_job_span(
    task: str,
    parent: str | None,
    links: Sequence[str | None],
    attributes: Mapping[str, str | int],
) -> "JobSpan":
    """Start the span of a run of a job, in the context of the run. Traces must be on.

    Args:
        task: The task's name.
        parent: The span of the code that enqueued the job, or None.
        links: Spans of earlier runs, or None.
        attributes: The attributes of the span.
    """
    assert _tracing
    return _tracing.start_job_span(task, parent, links, attributes)


def continue_trace(traceparent: str) -> None:
    """Make a span of another process the parent of the spans of this context.

    Args:
        traceparent: The span.
    """
    if _tracing:
        _tracing.continue_trace(traceparent)


@contextmanager
def public_request(method: str, host: str, port: int | None) -> Iterator[Callable[[int], None]]:
    """Make a span of a request to an address that a user named. The request has no trace id.

    Args:
        method: The request's method.
        host: The host. The span has no path, because a path may be a secret.
        port: The port, or None for the usual one.

    Yields:
        A function that takes the status of the answer.
    """
    if _tracing is None:
        yield _note_nothing
        return
    with _tracing.public_request(method, host, port) as note_status:
        yield note_status


def modules_for_children() -> list[str]:
    """Return the modules for child processes of jobs, which the fork server imports once."""
    # The exporter imports requests when it is made, in each child process.
    return ["core.traces.tracing", "requests"] if _tracing else []


def _note_nothing(_: int) -> None: ...


def _use_env_file() -> None:
    """Set the variables of OpenTelemetry from `.env`, because it reads only the environment."""
    for name, value in read_env_file().items():
        if name.startswith(PREFIX) and value:
            os.environ.setdefault(name, value)


def _find(names: Sequence[str]) -> tuple[str, str]:
    """Return the first variable that is set, and its value."""
    for name in names:
        value = os.environ.get(name, "").strip()
        if value:
            return name, value
    return names[0], ""


def _find_problem(name: str, endpoint: str) -> str | None:
    if not endpoint.startswith(("http://", "https://")):
        return f"{name} must look like http://collector:4318"
    variable, protocol = _find(PROTOCOLS)
    if protocol not in ("", PROTOCOL):
        hint = f"Use {PROTOCOL} and the port for it, which is usually 4318."
        return f"{variable}={protocol} is not supported. {hint}"
    return None

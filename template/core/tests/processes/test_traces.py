"""Traces are off without an endpoint, and a problem with them is one line that stops nothing."""

import json
from pathlib import Path
from typing import Any

import pytest

from core.tests.processes.test_log_lines import log

ENDPOINT = "OTEL_EXPORTER_OTLP_ENDPOINT"
START = """
import sys
from core.config import get_settings
from core.logging import configure_logging, get_logger
from core.traces import current_traceparent, is_on, start_tracing, stop_tracing

configure_logging(get_settings(), "web")
{before}
start_tracing(get_settings(), "web")
import core.process
unwanted = {{"opentelemetry.sdk", "opentelemetry.instrumentation", "google.protobuf", "requests"}}
logger = get_logger("test")
logger.info("end", is_on=is_on(), imported=sorted(unwanted & set(sys.modules)))
stop_tracing()
"""


FILL = """
import asyncio
from core.config import get_settings
from core.logging import configure_logging, get_logger
from core.tasks.child_processes import run_in_child
from core.tests.children import fill
from core.traces import continue_trace, start_tracing, stop_tracing

configure_logging(get_settings(), "worker")
start_tracing(get_settings(), "worker")
continue_trace("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01")
megabytes = asyncio.run(asyncio.wait_for(run_in_child(fill, (), {}, 10**8), 60))
get_logger("test").info("end", megabytes=megabytes)
stop_tracing()
"""


def read_log(root: Path, script: str, **variables: str) -> list[dict[str, Any]]:
    """Run a script in a process of the service, and return the lines of its log."""
    return [json.loads(line) for line in log(root, script, LOG_FORMAT="json", **variables)]


def start(root: Path, before: str = "", **variables: str) -> tuple[list[str], bool, list[str]]:
    """Start tracing in a process.

    Returns:
        The log lines of the start, whether traces are on, and the libraries that were imported.
    """
    script = START.format(before=before)
    *lines, end = read_log(root, script, **variables)
    return [line["event"] for line in lines], end["is_on"], end["imported"]


@pytest.mark.parametrize(
    "variables",
    [
        {},
        {ENDPOINT: ""},
        {ENDPOINT: "http://127.0.0.1:1", "OTEL_SDK_DISABLED": "true"},
        {ENDPOINT: "http://127.0.0.1:1", "OTEL_TRACES_EXPORTER": "none"},
    ],
)
def test_traces_that_are_off_import_nothing(root, variables):
    assert start(root, **variables) == ([], False, [])


def test_an_endpoint_switches_traces_on(root):
    lines, is_on, imported = start(root, **{ENDPOINT: "http://127.0.0.1:1"})
    assert (lines, is_on) == ([], True)
    assert "opentelemetry.sdk" in imported


def test_an_endpoint_in_the_env_file_switches_traces_on(root):
    (root / ".env").write_text(f"{ENDPOINT}=http://127.0.0.1:1\n")
    assert start(root)[1]


@pytest.mark.parametrize(
    ("variables", "problem"),
    [
        ({ENDPOINT: "collector:4318"}, f"{ENDPOINT} must look like http://collector:4318"),
        (
            {ENDPOINT: "http://127.0.0.1:1", "OTEL_EXPORTER_OTLP_PROTOCOL": "grpc"},
            "OTEL_EXPORTER_OTLP_PROTOCOL=grpc is not supported. Use http/protobuf and the port",
        ),
        (
            {ENDPOINT: "http://127.0.0.1:1", "OTEL_BSP_MAX_QUEUE_SIZE": "2"},
            "a variable that begins with OTEL_ is wrong: max_export_batch_size must be less",
        ),
    ],
)
def test_a_wrong_variable_is_one_line(root, variables, problem):
    (line,), is_on, _ = start(root, **variables)
    assert line.startswith(f"traces are off: {problem}")
    assert not is_on


def test_a_child_process_needs_no_memory_of_its_job(root):
    """The function has a limit, but the end of its traces does not count."""
    *_, end = read_log(root, FILL, **{ENDPOINT: "http://127.0.0.1:1"})
    assert end["megabytes"] > 50


LOSE = """
from core.config import get_settings
from core.logging import configure_logging
from core.traces import start_tracing, stop_tracing
from opentelemetry.trace import get_tracer

configure_logging(get_settings(), "{process}")
start_tracing(get_settings(), "{process}")
get_tracer("test").start_span("lost").end()
stop_tracing(60)
"""


@pytest.mark.parametrize(
    ("process", "reason"), [("worker", "Transient error"), ("child", "due to timeout, max retries")]
)
def test_a_job_in_a_child_process_waits_for_no_second_try(root, process, reason):
    """The job ends after its traces. Other processes send them in the background."""
    variables = {ENDPOINT: "http://127.0.0.1:1", "OTEL_EXPORTER_OTLP_TIMEOUT": "2"}
    script = LOSE.format(process=process)
    (line,) = read_log(root, script, **variables)
    assert line["event"] == "spans are lost: the collector fails"
    assert reason in line["reason"]


LOAD = """
import sys
from importlib import import_module
from core.config import get_settings
from core.logging import configure_logging, get_logger
from core.traces import modules_for_children, start_tracing, stop_tracing
import core.process

configure_logging(get_settings(), "child")
for name in {modules}:
    import_module(name)
before = set(sys.modules)
start_tracing(get_settings(), "child")
packages = {{name.partition(".")[0] for name in set(sys.modules) - before}}
get_logger("test").info("end", modules=modules_for_children(), packages=sorted(packages))
stop_tracing()
"""


def test_a_child_process_imports_no_package_of_traces(root):
    """They are imported once. Otherwise each job in a child process would take 0.06 s longer."""
    modules: list[str] = []
    for is_child in (False, True):
        script = LOAD.format(modules=modules)
        *_, end = read_log(root, script, **{ENDPOINT: "http://127.0.0.1:1"})
        modules = end["modules"]
        assert ("requests" in end["packages"]) != is_child
    assert end["packages"] == []


def test_packages_that_are_missing_are_one_line(root):
    without = 'sys.modules["opentelemetry.sdk"] = None'
    (line,), is_on, _ = start(root, without, **{ENDPOINT: "http://127.0.0.1:1"})
    hint = "the packages for traces are missing. Run `uv add 'core[traces]'`."
    assert line == f"traces are off: {ENDPOINT} is set, but {hint}"
    assert not is_on

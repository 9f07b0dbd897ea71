"""Log lines of a process: short for people, complete in JSON."""

import json
import re
import subprocess
import sys
from pathlib import Path

from core.tests.processes.conftest import environment

JOB_ID = "feefaf12329c482eb2ce487927e653d9"
CORRELATION_ID = "5f145d9a5f9c4fbcb42c7ba35ec8b453"

SCRIPT = f"""
import logging
import structlog
from core.config import get_settings
from core.context import TaskContext
from core.logging import configure_logging, get_logger

configure_logging(get_settings(), "worker")
TRACE = {{"trace_id": "0af7651916cd43dd8448eb211c80319c"}}
get_logger("core.process").info("worker started", tasks=["ship", "pack"])
get_logger("core.tasks.broker.host").info("worker started", tasks=["ship", "pack"])
with (
    TaskContext.use("{CORRELATION_ID}"),
    structlog.contextvars.bound_contextvars(job_id="{JOB_ID}", task="ship", attempt=1),
):
    get_logger("core.tasks.settle").info("job completed", seconds=0.0143)
    get_logger("app.orders").info("order paid", order="o 1", status="new")
with structlog.contextvars.bound_contextvars(job_id="daily-7", task="ship", attempt=2, **TRACE):
    get_logger("core.tasks.settle").info("job completed", seconds=0.01)
request = dict(method="GET", path="/jobs", status=200, seconds=0.1)
get_logger("core.web.access_log").info("request", **request)
logging.getLogger("pymongo.client").warning("lost %s", "a server")
"""

LINES = [
    "info    worker worker started tasks=2",
    "info    worker worker started tasks=2",
    "info    worker ship: job completed 0.0143s job=feefaf12 correlation=5f145d9a",
    "info    worker ship: order paid order='o 1' status=new job=feefaf12 correlation=5f145d9a",
    "info    worker ship: job completed 0.01s attempt=2 job=daily-7 trace=0af76519",
    "info    worker request GET /jobs 200 0.1s",
    "warning worker pymongo.client: lost a server",
]


def log(root: Path, script: str, **settings: str) -> list[str]:
    """Run a script in a process of the service, and return its log lines."""
    done = subprocess.run(
        [sys.executable, "-c", script],
        cwd=root,
        env=environment(root, **settings),
        check=True,
        capture_output=True,
        text=True,
    )
    return done.stderr.splitlines()


def test_a_line_for_people_has_what_matters(root):
    lines = log(root, SCRIPT)
    assert all(re.match(r"\d\d:\d\d:\d\d ", line) for line in lines)
    assert [line[9:] for line in lines] == LINES


def test_a_line_in_json_has_every_field(root):
    started, _, completed, *_ = map(json.loads, log(root, SCRIPT, LOG_FORMAT="json"))
    assert started["tasks"] == ["ship", "pack"]
    assert started["timestamp"].endswith("Z")
    assert completed.pop("timestamp")
    assert completed == {
        "event": "job completed",
        "level": "info",
        "logger": "core.tasks.settle",
        "process": "worker",
        "task": "ship",
        "attempt": 1,
        "seconds": 0.0143,
        "job_id": JOB_ID,
        "correlation_id": CORRELATION_ID,
    }


UNUSUAL = """
from pathlib import Path
from core.config import get_settings
from core.logging import configure_logging, get_logger, mask_texts
from core.logging.direct import DirectLogger

configure_logging(get_settings(), "web")
SECRET = 'M\\u00fcller "M"'
mask_texts([SECRET])
for values in (
    {"order": Path("o-1"), "name": SECRET, "city": "K\\u00f6ln"},
    {"order": {"name": SECRET}, "city": "K\\u00f6ln"},
    {"name": SECRET, "city": "K\\u00f6ln"},
    {"name": SECRET, "city": "K\\ud800"},
):
    get_logger("app").info("order paid", **values)
    DirectLogger("app").info("order paid", **values)
"""


def test_a_line_in_json_takes_any_value(root):
    lines = log(root, UNUSUAL, LOG_FORMAT="json")
    assert not any("ller" in line for line in lines)
    events = [json.loads(line) for line in lines]
    assert [event["city"] for event in events] == ["Köln"] * 6 + ["K\ud800"] * 2
    assert events[0]["order"] == repr(Path("o-1"))
    assert events[2]["order"] == {"name": "***"}
    for event in events:
        assert event.pop("timestamp")
    assert events[::2] == events[1::2]


TRACEBACK = """
from core.config import get_settings
from core.logging import configure_logging, get_logger
from core.threads import ThreadPool

configure_logging(get_settings(), "web")
from app import texts

try:
    ThreadPool().submit(texts.count).result()
except ValueError:
    get_logger("app").exception("failed")
"""


def test_a_traceback_for_people_begins_with_the_services_code(root):
    (root / "app").mkdir()
    (root / "app" / "texts.py").write_text("def count():\n    return int('many')\n")
    text = "\n".join(log(root, TRACEBACK))
    assert "app/texts.py" in text
    assert "concurrent" not in text
    full = "\n".join(log(root, TRACEBACK, LOG_FORMAT="json"))
    assert "concurrent" in full

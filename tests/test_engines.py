"""The page where one chooses an engine shows what the code declares."""

import json
import re
import shutil
from pathlib import Path

from conftest import ROOT, run

PAGE = ROOT / "docs" / "engines.md"
CORE = ROOT / "template" / "core"

READ_PROMISES = """
import json
from core.config import Settings
from core.tasks.engine import Promise
from core.tasks.engines import AVAILABLE, build_engine

nowhere = {
    "secret_key": "x" * 32,
    "mongodb_url": "mongodb://127.0.0.1:1",
    "redis_url": "redis://127.0.0.1:1",
}
columns = {name: {"task_engine": name} for name in AVAILABLE}
if celery := columns.pop("celery", None):
    columns["celery on Redis"] = celery
    columns["celery on RabbitMQ"] = {**celery, "broker_url": "amqp://127.0.0.1:1"}
engines = {name: build_engine(Settings(**nowhere, **chosen)) for name, chosen in columns.items()}
promises = {name: sorted(engine.promises) for name, engine in engines.items()}
print(json.dumps({"all": sorted(Promise), **promises}))
"""


def read_table() -> dict[str, dict[str, str]]:
    """Return the cells of the table of promises, by column and promise."""
    text = PAGE.read_text()
    (head,) = re.findall(r"^\| promise \|(.*)\|$", text, re.MULTILINE)
    engines = [cell.strip().replace("`", "") for cell in head.split("|")]
    rows = re.findall(r"^\| `(\w+)`: .+?((?: \| (?:yes|no))+) \|$", text, re.MULTILINE)
    cells = {promise: values.split(" | ")[1:] for promise, values in rows}
    return {
        engine: {promise: values[number] for promise, values in cells.items()}
        for number, engine in enumerate(engines)
    }


def test_the_page_shows_the_promises_of_each_engine(queue_service: Path, tmp_path: Path) -> None:
    """A service has two engines at most, but this one gets the code of all engines."""
    service = tmp_path / "service"
    left_out = shutil.ignore_patterns(".venv", ".dev", "tests")
    shutil.copytree(queue_service, service, ignore=left_out)
    shutil.copytree(CORE / "tasks", service / "core" / "tasks", dirs_exist_ok=True)
    python = str(queue_service / ".venv" / "bin" / "python")
    # The packages of the other engines are missing: an engine imports its own only to connect.
    done = run(python, "-c", READ_PROMISES, cwd=service)
    declared = json.loads(done.stdout)
    known = declared.pop("all")
    table = read_table()
    assert declared.keys() <= table.keys()
    for engine, promises in declared.items():
        cells = {promise: "yes" if promise in promises else "no" for promise in known}
        assert table[engine] == cells, engine

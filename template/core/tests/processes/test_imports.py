"""`core.tasks.worker` is a module and a name of `core.tasks`: every import gives the right one."""

import subprocess
import sys
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import assert_type

import pytest

import core.tasks.worker
from core import tasks
from core.tasks import Worker, worker
from core.tasks.worker import worker as imported_from_module
from core.tests.processes.conftest import environment

FIRST_IMPORTS = (
    "from core.tasks import worker",
    "from core.tasks.worker import worker",
    "from core import tasks; worker = tasks.worker",
    "import core.tasks.worker; worker = core.tasks.worker",
    "import core.tasks.worker as worker",
    "from app.tasks.worker import worker",
)


def test_worker_is_the_object():
    for found in (worker, imported_from_module, tasks.worker, core.tasks.worker):
        assert_type(found, Worker)
        assert found is worker


@pytest.mark.parametrize("first_import", FIRST_IMPORTS)
def test_the_first_import_of_a_process_makes_no_difference(root: Path, first_import):
    (root / "app" / "tasks").mkdir(parents=True)
    (root / "app" / "tasks" / "worker.py").write_text("from core.tasks.worker import worker")
    check = "from core.tasks import Worker; assert isinstance(worker, Worker), worker"
    command = [sys.executable, "-c", f"{first_import}; {check}"]
    subprocess.run(command, check=True, cwd=root, env=environment(root))


def test_the_module_is_found_by_its_name(monkeypatch):
    module = import_module("core.tasks.worker")
    assert isinstance(module, ModuleType)
    assert module.worker is worker
    with monkeypatch.context() as patch:  # tests replace names of modules in this way
        patch.setattr(module, "build_engine", None)
        assert module.build_engine is None


@pytest.mark.parametrize(
    "module",
    ["core.logging", "core.tasks", "core.tasks.child_processes", "core.entry", "core.process"],
)
def test_no_process_imports_rich(root: Path, module):
    """It would take memory and time, and structlog would print local variables with it."""
    check = "import structlog, sys; assert 'rich' not in sys.modules; import rich"
    command = [sys.executable, "-c", f"import {module}; {check}"]
    subprocess.run(command, check=True, cwd=root, env=environment(root))

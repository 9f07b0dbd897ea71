"""Every module of a service can be the first one that a process imports."""

from pathlib import Path

import pytest
from conftest import duplicate, run

IMPORT_EACH_FIRST = """
import importlib, os, sys

import core.entry, core.web  # once for all, because core/ imports nothing from app/

for name in sys.argv[1:]:
    if os.fork() == 0:
        importlib.import_module(name)
        os._exit(0)
    _, status = os.wait()
    if status:
        sys.exit(f"{name} cannot be imported first")
print("imported", len(sys.argv) - 1)
"""

TASK = """
from app.tasks.worker import worker

@worker.task
async def greet(name: str) -> str:
    return f"Hello {name}"
"""

TASK_OF_ANOTHER_MODULE = """
from app.tasks.greetings import greet
from app.tasks.worker import worker

@worker.task
async def invite(name: str) -> str:
    return await greet(name)
"""


def list_modules(service: Path) -> list[str]:
    paths = [path.relative_to(service) for path in (service / "app").rglob("*.py")]
    names = [".".join(path.with_suffix("").parts) for path in paths]
    return sorted(name.removesuffix(".__init__") for name in names)


def import_each_first(python: Path, service: Path) -> None:
    """Import each module first in a separate process. The processes share only `core/`."""
    modules = list_modules(service)
    done = run(str(python), "-c", IMPORT_EACH_FIRST, *modules, cwd=service)
    assert done.stdout == f"imported {len(modules)}\n"


@pytest.fixture
def python(queue_service: Path) -> Path:
    return queue_service / ".venv" / "bin" / "python"


def test_each_module_can_be_imported_first(python: Path, queue_service: Path) -> None:
    assert len(list_modules(queue_service)) > 20
    import_each_first(python, queue_service)


def test_task_modules_may_import_the_worker_of_app(
    python: Path, queue_service: Path, tmp_path: Path
) -> None:
    service = duplicate(queue_service, tmp_path / "service")
    tasks = service / "app" / "tasks"
    (tasks / "greetings.py").write_text(TASK)
    (tasks / "invitations.py").write_text(TASK_OF_ANOTHER_MODULE)
    worker = tasks / "worker.py"
    worker.write_text(f"{worker.read_text()}from . import invitations, greetings\n")
    import_each_first(python, service)


def test_a_module_that_cannot_be_imported_first_is_found(
    python: Path, queue_service: Path, tmp_path: Path
) -> None:
    service = duplicate(queue_service, tmp_path / "service")
    (service / "app" / "first.py").write_text("from app.second import b\na = 1\n")
    (service / "app" / "second.py").write_text("from app.first import a\nb = 1\n")
    with pytest.raises(AssertionError, match=r"app\.first cannot be imported first"):
        import_each_first(python, service)

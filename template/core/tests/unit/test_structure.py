"""Imports run one way, so each module can be read by itself."""

import ast
from pathlib import Path

from core.config import ROOT

# Each part may import the parts before it.
ORDER = [
    {"cancelling", "errors", "context", "keys", "supervised", "worker_link"},
    {"config", "health_server"},
    {"logging"},
    {"background", "threads", "traces"},
    {"models", "database"},
    {"services", "migrations"},
    {"tasks"},
    {"local_servers"},
    {"entry"},
    {"web"},
    {"process", "worker_processes", "dev", "update"},
    {"testing", "commands"},
    {"__main__", "__init__"},
]
ENTRY_POINTS = {Path("core/tasks/broker/host.py")}
"""The command of another queue system enters the service here, so it imports parts after it."""
RANK = {name: rank for rank, names in enumerate(ORDER) for name in names}


def imports(path: Path) -> set[str]:
    """Return the modules that a file imports, including imports inside functions."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: core imports by full names"
            names.add(node.module or "")
    return names


def test_core_imports_one_way_and_never_app():
    files = [path.relative_to(ROOT) for path in (ROOT / "core").rglob("*.py")]
    files = [path for path in files if "tests" not in path.parts]
    assert len(files) > 30
    for path in files:
        part = path.parts[1].removesuffix(".py")
        for name in imports(ROOT / path):
            assert name.split(".")[0] != "app", f"{path} imports {name}"
            if name.startswith("core."):
                imported = name.split(".")[1]
                fits = imported == part or RANK[imported] < RANK[part] or path in ENTRY_POINTS
                assert fits, f"{path} imports {name}, which comes after it"


DEVELOPMENT = {
    "core/commands/processes.py": {"core.dev.scaffold", "core.dev.setup", "core.dev.supervisor"},
    "core/testing.py": {"core.dev.servers"},
}
"""The modules that may import from `core.dev`. All others run in production."""


def test_only_development_imports_core_dev():
    found = {}
    for path in Path("core").rglob("*.py"):
        names = {name for name in imports(path) if f"{name}.".startswith("core.dev.")}
        if names and not {"dev", "tests"}.intersection(path.parts):
            found[str(path)] = names
    assert found == DEVELOPMENT

"""The imports of `core/` and of the skeleton `app/` have no circles.

This is a test of the template, not of a service, because a user's `app/` may have circles. Imports
inside functions do not count.
"""

import ast
from collections.abc import Iterator
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest
from conftest import ROOT

FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda)


def module_name(path: Path) -> str:
    return ".".join(path.with_suffix("").parts).removesuffix(".__init__")


def nodes_at_import(tree: ast.Module) -> Iterator[ast.AST]:
    """Yield the nodes of a module that are not inside functions."""
    nodes: list[ast.AST] = [tree]
    for node in nodes:
        yield node
        if not isinstance(node, FUNCTIONS):
            nodes.extend(ast.iter_child_nodes(node))


def imported_names(path: Path, source: str) -> Iterator[str]:
    """Yield the full names that a module imports; some are modules, some are names in a module."""
    for node in nodes_at_import(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            package = path.parts[: len(path.parts) - node.level] if node.level else ()
            base = ".".join([*package, *filter(None, [node.module])])
            yield from (f"{base}.{alias.name}" for alias in node.names)


def import_graph(sources: dict[Path, str]) -> dict[str, set[str]]:
    """Return the modules that each module imports.

    Args:
        sources: Each module's source by its path, relative to the folder that is on `sys.path`.
    """
    modules = {module_name(path) for path in sources}
    graph: dict[str, set[str]] = {}
    for path, source in sources.items():
        names = set(imported_names(path, source))
        parents = {name.rpartition(".")[0] for name in names - modules}
        graph[module_name(path)] = (names | parents) & modules
    return graph


def find_circle(graph: dict[str, set[str]]) -> list[str]:
    """Return the modules of one circle, from a module back to itself, or an empty list."""
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        circle: list[str] = error.args[1]
        return circle[::-1]
    return []


@pytest.mark.parametrize("room", ["core", "app"])
def test_no_circle(room: str) -> None:
    template = ROOT / "template"
    paths = [path.relative_to(template) for path in (template / room).rglob("*.py")]
    sources = {path: (template / path).read_text() for path in paths if "tests" not in path.parts}
    assert len(sources) > 10
    circle = find_circle(import_graph(sources))
    assert not circle, f"modules import each other: {' -> '.join(circle)}"


BASE = {
    Path("app/__init__.py"): "import os",
    Path("app/tasks/__init__.py"): "from . import worker",
    Path("app/tasks/worker.py"): "worker = 1",
    Path("app/tasks/emails.py"): "from .worker import worker\nfrom app.models import User",
    Path("app/models.py"): "class User: ...",
}


@pytest.mark.parametrize(
    ("path", "source"),
    [
        ("app/tasks/worker.py", "from . import emails"),
        ("app/tasks/worker.py", "import app.tasks.emails"),
        ("app/tasks/worker.py", "from app.tasks.emails import send"),
        ("app/tasks/worker.py", "try:\n    from ..tasks import emails\nexcept ImportError: ..."),
    ],
)
def test_a_circle_is_found(path: str, source: str) -> None:
    circle = find_circle(import_graph({**BASE, Path(path): source}))
    assert sorted(set(circle)) == ["app.tasks.emails", "app.tasks.worker"]
    assert circle[0] == circle[-1]


@pytest.mark.parametrize(
    "source", ["worker = 1", "def load():\n    from . import emails", "from app.models import User"]
)
def test_a_graph_without_a_circle_passes(source: str) -> None:
    assert find_circle(import_graph({**BASE, Path("app/tasks/worker.py"): source})) == []

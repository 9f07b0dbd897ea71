"""The lists in which a service names its tasks, routers and documents."""

import ast
from pathlib import Path

from core.config import ROOT
from core.dev.scaffold.names import Names
from core.dev.scaffold.source import OtherShape, Source
from core.errors import UserError

APP = ROOT / "app"
MAIN = APP / "main.py"
WORKER = APP / "tasks" / "worker.py"
LAST = "\n# Last, so that a task module can import `worker` from this one.\nfrom . import {name}\n"

BY_HAND = {
    "task": "Add `from app.tasks import {name}` to a module that the worker imports.",
    "route": "Import `{name}` from `app.routes`, and add `{name}.router` to the service's routers.",
    "model": "Import `{class_name}` from `app.models.{name}`. Add it to the service's documents.",
}
"""The lines that a person must add if the list has an unexpected form."""


def register(kind: str, names: Names) -> Source | None:
    """Return the file that lists things of this kind, with the new name in it.

    Args:
        kind: `task`, `route`, `model` or `migration`.
        names: The names of the new one.

    Returns:
        The file. None for a migration, because no file lists these.

    Raises:
        OtherShape: The list has an unexpected form.
        UserError: The file already uses the name.
    """
    match kind:
        case "task":
            return _register_task(names.name)
        case "route":
            return _register_route(names.name)
        case "model":
            return _register_model(names)
        case _:
            return None


def _register_task(name: str) -> Source:
    source = Source(WORKER)
    _refuse_bound(source, name)
    listed = source.find_import(None, level=1)
    if listed:
        source.add_item(name, _names_in(listed), 0)
    elif "worker" in source.bound_names():
        source.append(LAST.format(name=name))
    else:
        raise OtherShape
    return source


def _register_route(name: str) -> Source:
    source, routers = _find_list("routers")
    _refuse_bound(source, name)
    listed = source.find_import("app.routes", level=0)
    if listed:
        source.add_item(name, _names_in(listed), 0)
    else:
        source.add_import(f"from app.routes import {name}")
    source.add_item(f"{name}.router", routers.elts, source.start(routers) + 1)
    return source


def _register_model(names: Names) -> Source:
    source, documents = _find_list("documents")
    _refuse_bound(source, names.class_name)
    source.add_import(f"from app.models.{names.name} import {names.class_name}")
    source.add_item(names.class_name, documents.elts, source.start(documents) + 1)
    return source


def _find_list(argument: str) -> tuple[Source, ast.List]:
    """Return the list that `Service(...)` gets, and the file in which it is written."""
    source = Source(MAIN)
    calls = [node for node in ast.walk(source.tree) if isinstance(node, ast.Call)]
    service = [each for each in calls if isinstance(each.func, ast.Name | ast.Attribute)]
    service = [each for each in service if ast.unparse(each.func).endswith("Service")]
    if len(service) != 1:
        raise OtherShape
    values = [each.value for each in service[0].keywords if each.arg == argument]
    value: ast.expr | None = values[0] if values else None
    if isinstance(value, ast.Name):
        source, value = _follow(source, value.id)
    if not isinstance(value, ast.List):
        raise OtherShape
    return source, value


def _follow(source: Source, name: str) -> tuple[Source, ast.expr | None]:
    """Return the value of a name, and the file that assigns it: this one or an imported one."""
    for node in source.tree.body:
        if not isinstance(node, ast.ImportFrom) or node.level or not node.module:
            continue
        for alias in node.names:
            if (alias.asname or alias.name) == name:
                other = Source(_find_module(node.module))
                return other, other.find_value(alias.name)
    return source, source.find_value(name)


def _find_module(name: str) -> Path:
    path = ROOT.joinpath(*name.split("."))
    return path / "__init__.py" if path.is_dir() else path.with_suffix(".py")


def _names_in(listed: ast.ImportFrom) -> list[ast.alias]:
    if any(alias.name == "*" for alias in listed.names):
        raise OtherShape
    return listed.names


def _refuse_bound(source: Source, name: str) -> None:
    if name in source.bound_names():
        path = source.path.relative_to(ROOT)
        problem = f"{path} already uses the name {name}"
        raise UserError(f"{problem}. Choose another one. Nothing was written.")

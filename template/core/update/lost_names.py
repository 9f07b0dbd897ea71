"""Finds the names of `core/` that a service uses and the new version lacks."""

import ast
from collections.abc import Iterator
from functools import cache
from pathlib import Path

from core.update.git import Repository

_DEFINITIONS = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)


def find_lost_names(service: Repository, old: Path, new: Path) -> list[str]:
    """Return a line for each import that works in the old version and fails in the new one.

    Args:
        service: The service.
        old: The folder with the rendered version that the service is from.
        new: The folder with the rendered version to update to.
    """
    lines = []
    for name in service.entries("ls-files", "-z", "--", "*.py", ":!core"):
        for number, module, imported in _find_imports(service.folder / name):
            if _has(old, module, imported) and not _has(new, module, imported):
                what = f"{module}.{imported}" if imported else module
                lines.append(f"{name}:{number}: the new version has no {what}")
    return lines


def _find_imports(path: Path) -> Iterator[tuple[int, str, str | None]]:
    """Yield the line, the module and the name of each import from `core`."""
    try:
        tree = ast.parse(path.read_bytes())
    except (OSError, SyntaxError, ValueError):
        return
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            modules = [alias.name for alias in node.names]
            yield from ((node.lineno, name, None) for name in modules if _is_core(name))
        elif isinstance(node, ast.ImportFrom) and not node.level and _is_core(node.module or ""):
            for alias in node.names:
                yield node.lineno, str(node.module), None if alias.name == "*" else alias.name


def _is_core(module: str) -> bool:
    return module.split(".")[0] == "core"


def _has(version: Path, module: str, name: str | None) -> bool:
    path = version.joinpath(*module.split("."))
    file = path.with_suffix(".py")
    if path.is_dir():
        file = path / "__init__.py"
    elif not file.exists():
        return False
    if name is None or _has(version, f"{module}.{name}", None):
        return True
    names = _find_names(file)
    return names is None or name in names


@cache
def _find_names(file: Path) -> set[str] | None:
    """Return the names that a module defines or imports, or None if it cannot be read."""
    names = set()
    try:
        statements = ast.parse(file.read_bytes()).body if file.exists() else []
    except (SyntaxError, ValueError):
        return None
    for statement in statements:
        if isinstance(statement, _DEFINITIONS):
            names.add(statement.name)  # without the names inside
            continue
        for node in ast.walk(statement):
            if isinstance(node, _DEFINITIONS):
                names.add(node.name)
            elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
                names.add(node.id)
            elif isinstance(node, ast.alias):
                names.add(node.asname or node.name)
    return names

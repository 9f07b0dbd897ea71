"""Finds the gaps in the docstrings of public names."""

import ast
from collections.abc import Iterator

import griffe
from surface import Name, Surface

TRIVIAL_PARAMETERS = {"*args", "**kwargs"}
STARS = {griffe.ParameterKind.var_positional: "*", griffe.ParameterKind.var_keyword: "**"}


def find_gaps(surface: Surface) -> list[str]:
    """Return what is missing or wrong in public docstrings.

    A module-level name, class, function and property needs a docstring. It names every parameter
    and every exception that the function itself raises.

    Args:
        surface: The public names.
    """
    return [f"{name.path}: {gap}" for name in surface for gap in _find_gaps(name)]


def _find_gaps(name: Name) -> Iterator[str]:
    found = name.object
    if name.same_as or _is_field(found):
        return
    if found.docstring is None:
        yield "no docstring"
    elif isinstance(found, griffe.Class):
        yield from _find_class_gaps(found)
    elif isinstance(found, griffe.Function) and not _is_fixture(found):
        yield from _find_parameter_gaps(found, found)
        missing = _find_raised(found) - _read_section(found, "raises")
        yield from (f"{each} is not in Raises" for each in missing)


def _find_class_gaps(found: griffe.Class) -> Iterator[str]:
    unknown = _read_section(found, "attributes") - found.all_members.keys()
    yield from (f"{each} is not an attribute" for each in unknown)
    init = found.members.get("__init__")
    if _read_section(found, "parameters") and isinstance(init, griffe.Function):
        yield from _find_parameter_gaps(found, init)


def _find_parameter_gaps(described: griffe.Object, function: griffe.Function) -> Iterator[str]:
    named = _read_section(described, "parameters")
    parameters = {STARS.get(each.kind, "") + each.name for each in function.parameters}
    parameters -= {"self", "cls"}
    yield from (f"{each} is not in Args" for each in parameters - named - TRIVIAL_PARAMETERS)
    yield from (f"{each} is not a parameter" for each in named - parameters)


def _find_raised(function: griffe.Function) -> set[str]:
    """The exceptions that the function's own code raises by name."""
    nodes = ast.walk(ast.parse(function.source))
    raised = [node.exc for node in nodes if isinstance(node, ast.Raise) and node.exc]
    classes = [each.func if isinstance(each, ast.Call) else each for each in raised]
    names = {ast.unparse(each).rpartition(".")[2] for each in classes}
    return {name for name in names if name[0].isupper()}


def _read_section(found: griffe.Object, kind: str) -> set[str]:
    """The names in a section of a docstring."""
    assert found.docstring
    sections = [each.value for each in found.docstring.parsed if each.kind.value == kind]
    items = [item for section in sections for item in section]
    if kind == "raises":
        return {str(item.annotation).rpartition(".")[2] for item in items}
    return {item.name for item in items}


def _is_field(found: griffe.Object) -> bool:
    is_member = isinstance(found.parent, griffe.Class)
    return is_member and found.is_attribute and "property" not in found.labels


def _is_fixture(function: griffe.Function) -> bool:
    return any(each.callable_path == "pytest.fixture" for each in function.decorators)

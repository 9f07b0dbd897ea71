"""The statuses of a job and the places in `core/` that set them, as a picture for Graphviz."""

import ast
import hashlib
import re
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

TASKS = Path(__file__).resolve().parent.parent / "template" / "core" / "tasks"
LUA = TASKS / "engines" / "redis" / "lua"
LUA_STATUS = re.compile(r"status(?:, [\w.]+)* = '(\w+)'")
FINAL = {"completed", "failed", "aborted"}

HEAD = """\
digraph life {
  rankdir=LR;
  bgcolor=white;
  node [fontname="sans-serif", fontsize=13];
  edge [fontname="sans-serif", fontsize=11];
"""


class Step(NamedTuple):
    """A step from one status to another.

    Attributes:
        before: The status before, or `enqueue`.
        after: The status after.
        label: The reason, for people.
        places: The places in the code that set the status: `file:function`, or a Lua script.
    """

    before: str
    after: str
    label: str
    places: tuple[str, ...] = ()


STEPS = (
    Step("enqueue", "pending", "at once", ("queue.py:seal", "common.lua")),
    Step("enqueue", "scheduled", "with a delay", ("queue.py:seal",)),
    Step("enqueue", "pending", "a later stage of a chain", ("chain.py:_enqueue",)),
    Step("scheduled", "pending", "the delay ends"),
    Step("pending", "running", "a worker takes it", ("common.lua",)),
    Step(
        "running",
        "pending",
        "its worker stops, or a limit is reached",
        ("executor.py:_put_back", "executor.py:_step_aside", "recover.lua"),
    ),
    Step("running", "running", "its worker dies: another takes it"),
    Step("running", "completed", "the function returns", ("settle.py:complete",)),
    Step("running", "scheduled", "an attempt fails", ("settle.py:retry",)),
    Step("running", "failed", "no retry is left: a dead letter", ("settle.py:_fail_for_good",)),
    Step("running", "aborted", "abort", ("settle.py:abort",)),
    Step("scheduled", "aborted", "abort", ("abort.lua",)),
    Step(
        "pending",
        "aborted",
        "abort, or an earlier stage fails",
        ("abort.lua", "chain.py:_stopped_fields"),
    ),
)
"""A place that sets a status belongs to a step. A step without a place changes no stored status."""


class LifecycleError(Exception):
    """The code and the picture differ."""


def find_places() -> set[tuple[str, str]]:
    """Return each place in the code that sets a status, with the status."""
    found = set()
    for path in sorted(TASKS.glob("*.py")):
        for function in _functions(ast.parse(path.read_text())):
            found |= {(f"{path.name}:{function.name}", status) for status in _statuses(function)}
    for path in sorted(LUA.glob("*.lua")):
        found |= {(path.name, status) for status in LUA_STATUS.findall(path.read_text())}
    return found


def make_dot() -> str:
    """Return the picture in the language of Graphviz.

    Raises:
        LifecycleError: A place in the code is in no step, or a step names a place that is gone.
    """
    found = find_places()
    named = {(place, step.after) for step in STEPS for place in step.places}
    if found != named:
        raise LifecycleError(
            f"script/lifecycle.py does not name {sorted(found - named)}, "
            f"and names {sorted(named - found)}, which the code does not have."
        )
    statuses = dict.fromkeys(status for step in STEPS for status in (step.before, step.after))
    lines = [_draw_node(status) for status in statuses]
    lines += [f'  {step.before} -> {step.after} [label="{_wrap(step.label)}"];' for step in STEPS]
    return HEAD + "\n".join(lines) + "\n}\n"


def find_mark(dot: str) -> str:
    """Return the text in the picture that names the version of its source."""
    return f"made from {hashlib.sha256(dot.encode()).hexdigest()}"


def _draw_node(status: str) -> str:
    if status == "enqueue":
        return "  enqueue [shape=plaintext];"
    width = 2 if status in FINAL else 1
    return f"  {status} [shape=box, style=rounded, penwidth={width}];"


def _wrap(label: str) -> str:
    return "\\n".join(textwrap.wrap(label, 18))


def _functions(tree: ast.AST) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef]:
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield node


def _statuses(function: ast.AST) -> Iterator[str]:
    """Yield the statuses that a function writes to a field `state`."""
    for node in ast.walk(function):
        values: list[ast.expr] = []
        if isinstance(node, ast.Dict):
            pairs = zip(node.keys, node.values, strict=True)
            values = [value for key, value in pairs if _is_state(key)]
        elif isinstance(node, ast.Assign):
            is_state = any(
                isinstance(target, ast.Subscript) and _is_state(target.slice)
                for target in node.targets
            )
            values = [node.value] if is_state else []
        for value in values:
            if isinstance(value, ast.Attribute) and _is_name(value.value, "JobStatus"):
                yield value.attr.lower()


def _is_state(node: ast.expr | None) -> bool:
    return isinstance(node, ast.Constant) and node.value == "state"


def _is_name(node: ast.expr, name: str) -> bool:
    return isinstance(node, ast.Name) and node.id == name

"""Pages of the reference that are made from the source of `core/`, without importing it."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

SETTINGS = "template/core/config/settings.py"
APP_SETTINGS = "template/app/settings.py"
RECIPES = "template/core/recipes.just"
METRICS = "template/core/tasks/metrics.py"

SETTINGS_HEAD = """\
# Settings

Settings come from the environment, then from `.env`. The variable of a setting is its name in
capitals. A process that finds a missing or wrong setting ends with one line that names it. To
declare your own, read [Settings](../../../docs/how-to/settings.md) under "How to".
"""
COMMANDS_HEAD = """\
# Commands

Run each recipe as `uv run just NAME`, or as `just NAME` if just is installed. `uv run just` lists
them. A recipe of the same name in your `Justfile` replaces it.
"""
METRICS_HEAD = """\
# Metrics

The web process and each worker serve these metrics at `/metrics`, for Prometheus. A worker uses the
port `WORKER_PORT`. Jobs run in the workers, so only the workers count jobs.

| metric | kind | labels | meaning |
|---|---|---|---|
"""
RECIPE = re.compile(
    r"^# (?P<text>.+)\n(?:\[.*\]\n)*?\[group\('(?P<group>\w+)'\)\]\n(?:\[.*\]\n)*"
    r"(?P<name>[\w-]+)(?P<parameters>.*):$",
    re.MULTILINE,
)
GROUPS = {"work": "Work", "check": "Checks", "template": "The template", "help": "Help"}
API_PART = re.compile(r"^## `(?P<module>[\w.]+)`$", re.MULTILINE)
API_LINK = re.compile(r"\(#(?P<anchor>core\w*)\)")


def describe_settings(root: Path) -> str:
    """Return the page of settings.

    Args:
        root: The folder of the repository.
    """
    parts = [SETTINGS_HEAD]
    titles = {SETTINGS: "Settings of every service", APP_SETTINGS: "Settings of the examples"}
    for path, title in titles.items():
        parts.append(f"\n## {title}\n\n| variable | default | meaning |\n|---|---|---|\n")
        parts += [f"{row}\n" for row in _find_settings((root / path).read_text())]
    return "".join(parts)


def _find_settings(source: str) -> Iterator[str]:
    for node in ast.parse(source).body:
        if not isinstance(node, ast.ClassDef) or not node.name.endswith("Settings"):
            continue
        for at, statement in enumerate(node.body):
            if isinstance(statement, ast.AnnAssign) and isinstance(statement.target, ast.Name):
                following = node.body[at + 1] if at + 1 < len(node.body) else None
                yield _describe_setting(statement, statement.target.id, following)


def _describe_setting(field: ast.AnnAssign, name: str, following: ast.stmt | None) -> str:
    text = ""
    if isinstance(following, ast.Expr) and isinstance(following.value, ast.Constant):
        text = " ".join(str(following.value.value).split())
    cells = (f"`{name.upper()}`", _show_default(field.value), text)
    return f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in cells)} |"


def _show_default(value: ast.expr | None) -> str:
    if value is None:
        return "must be set"
    if isinstance(value, ast.Call):
        if not value.args:
            return "computed"
        value = value.args[0]
    return f"`{ast.unparse(value)}`"


def describe_commands(root: Path) -> str:
    """Return the page of recipes.

    Args:
        root: The folder of the repository.
    """
    recipes = list(RECIPE.finditer((root / RECIPES).read_text()))
    parts = [COMMANDS_HEAD]
    for group, title in GROUPS.items():
        parts.append(f"\n## {title}\n\n| recipe | meaning |\n|---|---|\n")
        chosen = [recipe for recipe in recipes if recipe["group"] == group]
        parts += [f"| `just {each['name']}` | {each['text']} |\n" for each in chosen]
    return "".join(parts)


def describe_metrics(root: Path) -> str:
    """Return the page of metrics.

    Args:
        root: The folder of the repository.
    """
    tree = ast.parse((root / METRICS).read_text())
    calls = [node for node in ast.walk(tree) if isinstance(node, ast.Call) and node.args]
    return METRICS_HEAD + "".join(_describe_metric(call) for call in calls)


def _describe_metric(call: ast.Call) -> str:
    kind = call.func.id.lower().lstrip("_") if isinstance(call.func, ast.Name) else ""
    if kind not in ("counter", "gauge", "histogram", "sharedgauge"):
        return ""
    constants = [ast.literal_eval(argument) for argument in call.args if _is_literal(argument)]
    if len(constants) < 2:
        return ""
    name, text, *labels = constants
    shown = ", ".join(f"`{label}`" for label in labels[0]) if labels else ""
    return f"| `{name}` | {kind.removeprefix('shared')} | {shown} | {text} |\n"


def _is_literal(node: ast.expr) -> bool:
    return isinstance(node, ast.Constant | ast.List)


def split_api(text: str) -> dict[str, str]:
    """Return the page of public names in parts: one for each module, and an index.

    Args:
        text: `core/API.md`.
    """
    index, *parts = API_PART.split(text)
    modules = dict(zip(parts[::2], parts[1::2], strict=True))
    names = {module.replace(".", ""): f"{module}.md" for module in modules}
    pages = {"index.md": API_LINK.sub(lambda link: f"({names[link['anchor']]})", index)}
    for module, part in modules.items():
        pages[f"{module}.md"] = f"# `{module}`\n{part.replace('### `', '## `')}"
    return pages

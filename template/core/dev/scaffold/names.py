"""The names of a new file, and the names in it."""

import builtins
import keyword
import re
from dataclasses import asdict, dataclass

from core.errors import UserError

SNAKE = re.compile(r"[a-z][a-z0-9]*(_[a-z0-9]+)*")
CAMEL = re.compile(r"([A-Z][a-z0-9]*)+")
MAX_LENGTH = 40
"""Longer names would make lines that the formatter cannot shorten."""

USED = {
    "task": {"db", "job", "running_worker", "text", "worker"},
    "model": {"Annotated", "Document", "Field", "Indexed", "UTC"},
}
"""The names that the templates of a kind use, next to the new one."""


@dataclass(frozen=True)
class Names:
    """The names that the files of one kind use.

    Attributes:
        name: The module, and the function or the migration in it.
        class_name: The class.
        title: The words.
        path: The path of a route.
        collection: The collection of a document.
    """

    name: str
    class_name: str
    title: str
    path: str
    collection: str

    def as_dict(self) -> dict[str, str]:
        """Return the names for a template."""
        return asdict(self)


def make_names(kind: str, given: str) -> Names:
    """Return the names for a new file.

    Args:
        kind: `task`, `route`, `model` or `migration`.
        given: The name as the user typed it. A model may have the name of its class.

    Raises:
        UserError: The name is not a Python name, or Python, pytest or a template uses it.
    """
    is_class = kind == "model" and CAMEL.fullmatch(given)
    name = _to_snake(given) if is_class else given
    if not SNAKE.fullmatch(name) or len(name) > MAX_LENGTH:
        example = "Invoice or sales_order" if kind == "model" else "send_invoice"
        rule = f"Use lowercase letters, digits and single underscores, such as {example}"
        raise UserError(f"{given!r} is not a name for a {kind}. {rule}. Nothing was written.")
    class_name = given if is_class else "".join(word.capitalize() for word in name.split("_"))
    used = class_name if kind == "model" else name
    if keyword.iskeyword(name) or hasattr(builtins, used):
        problem = f"{used} is a name of Python, so it cannot be the name of a {kind}"
        raise UserError(f"{problem}. Choose another one. Nothing was written.")
    if kind in USED and (used in USED[kind] or used.lower().startswith("test")):
        problem = f"a {kind} cannot have the name {used}, because its files or pytest use it"
        raise UserError(f"{problem}. Choose another one. Nothing was written.")
    return Names(
        name=name,
        class_name=class_name,
        title=name.replace("_", " "),
        path=f"/{name.replace('_', '-')}",
        collection=_to_plural(name),
    )


def _to_snake(name: str) -> str:
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", name).lower()


def _to_plural(name: str) -> str:
    if re.search(r"[^aeiou]y$", name):
        return f"{name[:-1]}ies"
    if re.search(r"(x|ch|sh|ss)$", name):
        return f"{name}es"
    return name if name.endswith("s") else f"{name}s"

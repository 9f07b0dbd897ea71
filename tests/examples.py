"""The examples in a service, and their removal as CONTRIBUTING.md describes it."""

import re
from filecmp import cmp
from pathlib import Path
from typing import NamedTuple

from conftest import ROOT, UV, run

CONTRIBUTING = (ROOT / "template" / "CONTRIBUTING.md").read_text()
LISTS = ("app/main.py", "app/tasks/worker.py", "app/models/__init__.py")
TEST_PACKAGES = {"pypdf"}


class Example(NamedTuple):
    """A row of the table of examples."""

    name: str
    files: list[str]
    names: list[str]
    packages: list[str]


def read_examples() -> dict[str, Example]:
    """Return the examples by the first word of their names."""
    rows = [line for line in CONTRIBUTING.splitlines() if line.startswith("| ")]
    examples = {}
    for row in rows[1:]:
        name, *cells = row.strip("| ").split(" | ")
        cells += [""] * (3 - len(cells))
        files, names, packages = (re.findall(r"`([^`]+)`", cell) for cell in cells)
        examples[name.split()[0]] = Example(name, files, names, packages)
    return examples


def remove_example(service: Path, example: Example) -> None:
    """Remove an example from a service, up to its packages. Formatting the code is left."""
    delete(service, example.files)
    lists = {path: (service / path).read_text() for path in LISTS}
    for name in example.names:
        is_listed = any(re.search(rf"\b{name}\b", text) for text in lists.values())
        assert is_listed, f"{name} is in no list"
        lists = {path: remove_name(text, name) for path, text in lists.items()}
    for path, text in lists.items():
        (service / path).write_text(text)
    for package in example.packages:
        dev = ["--dev"] if package in TEST_PACKAGES else []
        run(UV, "remove", "--quiet", *dev, package, cwd=service)


def delete(service: Path, patterns: list[str]) -> None:
    """Delete the files that the patterns match. Each pattern must match a file."""
    for pattern in patterns:
        found = list(service.glob(pattern))
        assert found, f"{pattern} matches no file"
        for path in found:
            path.unlink()


def remove_name(text: str, name: str) -> str:
    """Remove a name from a list, and an import of only this name."""
    text = re.sub(rf"^from \S+ import {name}\n", "", text, flags=re.MULTILINE)
    item = rf"\b{name}(?:\.router)?"
    return re.sub(rf"{item},\s+|(?:,\s+)?{item}\b", "", text)


def list_edited_tests(service: Path, original: Path) -> list[str]:
    """Return the test files that a removal edited, and the one that tests the settings.

    The types show what no longer fits. These tests show the rest.

    Args:
        service: The service without an example.
        original: The service with it.
    """
    files = [path.relative_to(service) for path in (service / "tests").glob("test_*.py")]
    edited = [
        str(path) for path in files if not cmp(service / path, original / path, shallow=False)
    ]
    return [*edited, "tests/test_settings.py"]

"""Each example can be removed as CONTRIBUTING.md says, and the rest passes its checks."""

import ast
import re
import shutil
from pathlib import Path
from typing import NamedTuple

import pytest
from conftest import ROOT, UV, run

LISTS = ("app/main.py", "app/tasks/worker.py", "app/models/__init__.py")
TESTS_ONLY = {"pypdf"}
CONTRIBUTING = (ROOT / "template" / "CONTRIBUTING.md").read_text()


class Example(NamedTuple):
    name: str
    files: list[str]
    names: list[str]
    packages: list[str]


def read_table() -> list[Example]:
    rows = [
        line.strip("| ").split(" | ") for line in CONTRIBUTING.splitlines() if line.startswith("| ")
    ][1:]
    return [
        Example(name, *(re.findall(r"`([^`]+)`", cell) for cell in [*cells, ""][:3]))
        for name, *cells in rows
    ]


EXAMPLES = read_table()


@pytest.fixture(scope="module")
def checked(queue_service: Path) -> Path:
    """A service with mypy's cache, which makes later checks faster."""
    run(UV, "run", "--quiet", "just", "typecheck", cwd=queue_service)
    return queue_service


@pytest.fixture
def copied(checked: Path, tmp_path: Path) -> Path:
    target = tmp_path / "service"
    shutil.copytree(checked, target, ignore=shutil.ignore_patterns(".venv"))
    return target


def delete(service: Path, patterns: list[str]) -> None:
    for pattern in patterns:
        found = list(service.glob(pattern))
        assert found, f"{pattern} matches no file"
        for path in found:
            path.unlink()


def take_out(text: str, name: str) -> str:
    """Remove a name from a list, and an import of only this name."""
    text = re.sub(rf"^from \S+ import {name}\n", "", text, flags=re.MULTILINE)
    return re.sub(rf"\b{name}(?:\.router)?, |(?:, )?\b{name}(?:\.router)?\b", "", text)


def check(service: Path) -> None:
    run(UV, "run", "--quiet", "just", "format", cwd=service)
    for recipe in ("lint", "typecheck"):
        run(UV, "run", "--quiet", "just", recipe, cwd=service)
    assert " passed" in run(UV, "run", "just", "test", "-q", cwd=service).stdout


@pytest.mark.parametrize("example", EXAMPLES, ids=[example.name.split()[0] for example in EXAMPLES])
def test_an_example_is_taken_out(copied: Path, example: Example) -> None:
    delete(copied, example.files)
    lists = {path: (copied / path).read_text() for path in LISTS}
    for name in example.names:
        assert any(re.search(rf"\b{name}\b", text) for text in lists.values()), (
            f"{name} is in no list"
        )
        lists = {path: take_out(text, name) for path, text in lists.items()}
    for path, text in lists.items():
        (copied / path).write_text(text)
    for package in example.packages:
        run(
            UV,
            "remove",
            "--quiet",
            *(["--dev"] if package in TESTS_ONLY else []),
            package,
            cwd=copied,
        )
    check(copied)


def test_a_single_task_is_taken_out(copied: Path) -> None:
    (sentence,) = re.findall(
        r"remove the daily digest, delete (.*?), and their tests in `(\S+)`", CONTRIBUTING
    )
    *functions, module, templates = re.findall(r"`([^`]+)`", sentence[0])
    delete(copied, [templates])
    for path in (copied / module, copied / sentence[1]):
        text = path.read_text()
        all_functions = [
            node for node in ast.parse(text).body if isinstance(node, ast.AsyncFunctionDef)
        ]
        nodes = [node for node in all_functions if "digest" in node.name]
        assert nodes
        lines = text.splitlines(keepends=True)
        for node in reversed(nodes):
            first = node.decorator_list[0] if node.decorator_list else node
            del lines[first.lineno - 1 : node.end_lineno]
        path.write_text("".join(lines).replace(f"{', '.join(sorted(functions))}, ", ""))
    check(copied)


def test_the_table_names_all_examples(queue_service: Path) -> None:
    """Every file belongs to the frame or to at least one example."""
    named = {
        path
        for example in EXAMPLES
        for pattern in example.files
        for path in queue_service.glob(pattern)
    }
    files = {
        path
        for folder in ("app", "tests")
        for path in (queue_service / folder).rglob("*.*")
        if path.is_file()
    }
    frame = {"__init__.py", "main.py", "worker.py", "README.md", "layout.html"}
    assert {path.name for path in files - named if "__pycache__" not in path.parts} == frame

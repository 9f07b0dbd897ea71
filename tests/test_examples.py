"""Each example can be removed as CONTRIBUTING.md says, and the rest passes its checks."""

import ast
import re
from pathlib import Path

import pytest
from conftest import UV, duplicate, run
from examples import CONTRIBUTING, Example, list_edited_tests, read_examples, remove_example

EXAMPLES = read_examples()
FRAME = {
    "__init__.py",
    "main.py",
    "worker.py",
    "README.md",
    "layout.html",
    "layout.txt",
    "button.html",
    "user_email.py",
    "text.py",
    "settings.py",
    "test_settings.py",
}
"""The files that belong to no example."""


@pytest.fixture(scope="module")
def checked(queue_service: Path) -> Path:
    """A service with mypy's cache, which makes later checks faster."""
    run(UV, "run", "--quiet", "just", "typecheck", cwd=queue_service)
    return queue_service


def check(service: Path, *tests: str) -> None:
    run(UV, "run", "--quiet", "just", "format", cwd=service)
    for recipe in ("lint", "typecheck"):
        run(UV, "run", "--quiet", "just", recipe, cwd=service)
    assert " passed" in run(UV, "run", "just", "test", "-q", *tests, cwd=service).stdout


@pytest.mark.parametrize("name", EXAMPLES)
def test_an_example_is_taken_out(checked: Path, tmp_path: Path, name: str) -> None:
    example = EXAMPLES[name]
    service = duplicate(checked, tmp_path / "service", installed=not example.packages)
    remove_example(service, example)
    check(service, *list_edited_tests(service, checked))


def delete_functions(source: str, word: str) -> str:
    """Return a module without the async functions whose names contain a word."""
    functions = [node for node in ast.parse(source).body if isinstance(node, ast.AsyncFunctionDef)]
    deleted = [node for node in functions if word in node.name]
    assert deleted
    lines = source.splitlines(keepends=True)
    for node in reversed(deleted):
        first = node.decorator_list[0] if node.decorator_list else node
        del lines[first.lineno - 1 : node.end_lineno]
    return "".join(lines)


def test_a_single_task_is_taken_out(checked: Path, tmp_path: Path) -> None:
    copied = duplicate(checked, tmp_path / "service")
    pattern = r"remove the daily digest, delete (.*?), the files (.*?), and the names (.*?) from"
    (parts,) = re.findall(pattern, CONTRIBUTING)
    functions, files, names = (re.findall(r"`([^`]+)`", part) for part in parts)
    *functions, module = functions
    source = (copied / module).read_text()
    assert all(f"async def {function}(" in source for function in functions)
    (copied / module).write_text(delete_functions(source, "digest"))
    remove_example(copied, Example("digest", files, names, []))
    check(copied, *list_edited_tests(copied, checked))


def test_the_table_names_all_examples(queue_service: Path) -> None:
    """Every file belongs to the frame or to at least one example."""
    patterns = [pattern for example in EXAMPLES.values() for pattern in example.files]
    named = {path for pattern in patterns for path in queue_service.glob(pattern)}
    folders = [queue_service / "app", queue_service / "tests"]
    files = {path for folder in folders for path in folder.rglob("*.*") if path.is_file()}
    unnamed = {path.name for path in files - named if "__pycache__" not in path.parts}
    assert unnamed == FRAME

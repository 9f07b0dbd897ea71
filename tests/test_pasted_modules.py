"""A service with modules of a reference document, pasted unchanged, passes its own checks."""

from pathlib import Path

from conftest import UV, duplicate, run
from examples import list_edited_tests, read_examples, remove_example
from reference import Place, read_blocks

MODULES = {
    "emails.py": Place("app-tasks.md", "Task Pattern"),
    "worker.py": Place("app-tasks.md", "Task Registration"),
}


def test_pasted_modules_pass_the_checks(queue_service: Path, tmp_path: Path) -> None:
    """`emails.py` replaces the emails of the accounts, so this example is removed first."""
    service = duplicate(queue_service, tmp_path / "service")
    remove_example(service, read_examples()["accounts"])
    blocks = read_blocks()
    modules = {name: blocks[place].text for name, place in MODULES.items()}
    for name, text in modules.items():
        (service / "app" / "tasks" / name).write_text(text)

    for recipe in ("lint", "typecheck"):
        run(UV, "run", "--quiet", "just", recipe, cwd=service)
    tests = list_edited_tests(service, queue_service)
    assert " passed" in run(UV, "run", "just", "test", "-q", *tests, cwd=service).stdout
    for name, text in modules.items():
        assert (service / "app" / "tasks" / name).read_text() == text

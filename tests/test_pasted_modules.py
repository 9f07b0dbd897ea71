"""A service with modules of a reference document, pasted unchanged, passes its own checks."""

from pathlib import Path

from conftest import ROOT, UV, duplicate, run
from examples import read_examples, remove_example

PASTED = ROOT / "tests" / "snippets" / "pasted"


def test_pasted_modules_pass_the_checks(queue_service: Path, tmp_path: Path) -> None:
    """`emails.py` replaces the emails of the accounts, so this example is removed first."""
    service = duplicate(queue_service, tmp_path / "service")
    remove_example(service, read_examples()["accounts"])
    modules = {path.name: path.read_bytes() for path in PASTED.glob("*.py")}
    assert modules.keys() == {"emails.py", "worker.py"}
    for name, content in modules.items():
        (service / "app" / "tasks" / name).write_bytes(content)

    for recipe in ("lint", "typecheck"):
        run(UV, "run", "--quiet", "just", recipe, cwd=service)
    assert " passed" in run(UV, "run", "just", "test", "-q", cwd=service).stdout
    for name, content in modules.items():
        assert (service / "app" / "tasks" / name).read_bytes() == content

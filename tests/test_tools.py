"""The tools of a service: linter, formatter, type checker and lock, as a user meets them."""

import shutil
from pathlib import Path

from conftest import ROOT, UV, duplicate, git, run

USUAL = ROOT / "tests" / "usual"
UGLY = """\
def f( x:dict[str,str] )->str:
    return "-".join(["this line is too long, and the formatter splits it", x["a"], x["b"], x["c"]])
"""


def add_usual_code(service: Path) -> None:
    for folder in ("app", "tests"):
        shutil.copytree(USUAL / folder, service / folder, dirs_exist_ok=True)
    for name, old, new in (
        ("app/main.py", "from app.routes import ", "from app.routes import parcels, "),
        ("app/main.py", "routers=[", "routers=[parcels.router, "),
        ("app/models/__init__.py", "= [", "= [Carrier, Parcel, "),
        (
            "app/models/__init__.py",
            "from app.models.order",
            "from app.models.parcel import Carrier, Parcel\nfrom app.models.order",
        ),
    ):
        text = (service / name).read_text()
        assert old in text
        (service / name).write_text(text.replace(old, new, 1))


def test_the_checks_refuse_no_usual_code(queue_service: Path, tmp_path: Path) -> None:
    """FastAPI, Beanie, pydantic and pytest document this form."""
    service = duplicate(queue_service, tmp_path / "service")
    add_usual_code(service)
    for recipe in ("format", "lint", "typecheck"):
        run(UV, "run", "--quiet", "just", recipe, cwd=service)
    for path in USUAL.rglob("*.py"):
        assert (service / path.relative_to(USUAL)).read_bytes() == path.read_bytes()
    tests = "tests/test_parcels.py"
    assert " passed" in run(UV, "run", "just", "test", "-n0", tests, cwd=service).stdout


def test_format_corrects_all_that_it_can(queue_service: Path, tmp_path: Path) -> None:
    """A fault in one file keeps no other file from being formatted."""
    service = duplicate(queue_service, tmp_path / "service")
    ugly, broken = service / "app" / "ugly.py", service / "app" / "broken.py"
    ugly.write_text("import os\n" + UGLY)
    run(UV, "run", "just", "format", cwd=service)
    formatted = ugly.read_text()
    assert formatted.startswith("def f(x: dict[str, str]) -> str:\n    return")
    assert all(len(line) <= 100 for line in formatted.splitlines())
    run(UV, "run", "just", "lint", cwd=service)

    ugly.write_text(UGLY)
    broken.write_text("def f(:\n")
    done = run(UV, "run", "just", "format", cwd=service, check=False)
    assert done.returncode == 1
    assert "invalid-syntax" in done.stdout
    assert ugly.read_text() == formatted


def test_the_first_package_of_a_user_only_adds_lines_to_the_lock(
    service: Path, tmp_path: Path
) -> None:
    target = duplicate(service, tmp_path / "service", installed=False)
    run(UV, "add", "--quiet", "--no-sync", "hypothesis", cwd=target)
    added, deleted, _ = git(target, "diff", "--numstat", "uv.lock").split()
    assert int(added) > 0
    assert int(deleted) == 0

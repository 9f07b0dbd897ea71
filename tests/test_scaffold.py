"""`just new` writes files that pass every check of a service at once, and refuses to overwrite."""

import subprocess
from pathlib import Path

from conftest import UV, commit_all, duplicate, git, run
from examples import read_examples, remove_example
from test_rendered import is_queue_on

NEW = [
    ("task", "send_bill", "app/tasks/worker.py"),
    ("task", "work_through_all_of_the_unpaid_bills_now", "app/tasks/worker.py"),
    ("route", "sales_bills", "app/main.py"),
    ("model", "Bill", "app/models/__init__.py"),
    ("migration", "split_bills", None),
]

REFUSED = [
    ("task", "send-bill", "'send-bill' is not a name for a task."),
    ("task", "class", "class is a name of Python"),
    ("task", "send_digest", "the service already has the task send_digest."),
    ("task", "worker", "a task cannot have the name worker"),
    ("route", "jobs", "the service already has the path /jobs."),
    ("route", "health", "the service already has the path /health."),
    ("route", "me", "the service already has the path /me."),
    ("route", "service", "app/main.py already uses the name service."),
    ("model", "BlobModel", "the service already has the document or collection BlobModel."),
    ("model", "Session", "app/models/session.py exists."),
    ("model", "DeadLetter", "the service already has the document or collection dead_letters."),
    ("model", "limit_window", "the service already has the document or collection limit_windows."),
]
SEVERAL = """
import sys

from core.commands.main import main

pairs = zip(sys.argv[1::2], sys.argv[2::2])
print([main(["new", *pair]) for pair in pairs])
"""
"""Runs `just new` several times in one process, which loads the service once."""


def new(service: Path, kind: str, name: str) -> "subprocess.CompletedProcess[str]":
    return run(UV, "run", "--quiet", "just", "new", kind, name, cwd=service, check=False)


def status(service: Path) -> list[str]:
    return git(service, "status", "--porcelain", "--untracked-files=all", ":!.venv").splitlines()


def check(service: Path, types: bool) -> list[str]:
    """Run the checks of `just ci`, and only the new tests. Return the new tests."""
    run(UV, "run", "--quiet", "ruff", "format", "--check", ".", cwd=service)
    run(UV, "run", "--quiet", "ruff", "check", ".", cwd=service)
    if types:
        run(UV, "run", "--quiet", "just", "typecheck", cwd=service)
    tests = [line[3:] for line in status(service) if line.startswith("?? tests/")]
    done = run(UV, "run", "--quiet", "just", "test", "-q", *tests, cwd=service)
    assert " passed" in done.stdout
    return tests


def test_what_it_writes_passes_all_checks(service: Path, tmp_path: Path) -> None:
    target = duplicate(service, tmp_path / "service")
    for kind, name, listed in NEW:
        done = new(target, kind, name)
        assert done.returncode == 0, done.stderr
        lines = done.stdout.splitlines()
        assert [line.split()[0] for line in lines] == [
            "wrote",
            "wrote",
            *["changed"] * bool(listed),
        ]
        if listed:
            assert lines[-1] == f"changed {listed}"
    # The types are the same in both variants, and the check takes long.
    assert len(check(target, types=is_queue_on(service))) == len(NEW)
    added = git(target, "diff", "--numstat").splitlines()
    assert len(added) == 3
    names = [entry[3:] for entry in status(target)]
    assert all(name.startswith(("app/", "tests/")) for name in names)

    before = (status(target), git(target, "diff"))
    refused = [*((kind, name, " exists. Choose another name.") for kind, name, _ in NEW), *REFUSED]
    command = [".venv/bin/python", "-c", SEVERAL, *(part for each in refused for part in each[:2])]
    done = run(*command, cwd=target)
    lines = done.stderr.splitlines()
    assert done.stdout == f"{[2] * len(refused)}\n"
    for (_, _, problem), line in zip(refused, lines, strict=True):
        assert line.startswith("error: ")
        assert problem in line
        assert line.endswith("Nothing was written.")
    done = new(target, "thing", "name")
    assert (done.returncode, len(done.stderr.splitlines())) == (2, 1)
    assert (status(target), git(target, "diff")) == before


def test_lists_without_examples_and_lists_of_another_shape(
    queue_service: Path, tmp_path: Path
) -> None:
    """A service that a user has changed: no examples, other lists, and no `.env`."""
    target = duplicate(queue_service, tmp_path / "service")
    for example in read_examples().values():
        remove_example(target, example._replace(packages=[]))
    main = target / "app" / "main.py"
    text = main.read_text()
    assert "documents=DOCUMENTS" in text
    commit_all(target, "without examples")
    for kind, name in (("task", "send_bill"), ("route", "bills"), ("model", "Bill")):
        done = new(target, kind, name)
        assert done.returncode == 0, done.stderr
        assert "changed app/" in done.stdout
    run(UV, "run", "--quiet", "just", "format", cwd=target)
    check(target, types=False)

    main.write_text(main.read_text().replace("documents=DOCUMENTS", "documents=[*DOCUMENTS][:]"))
    done = new(target, "model", "Letter")
    line = "Import `Letter` from `app.models.letter`. Add it to the service's documents."
    assert done.stdout.splitlines()[-1] == f"By hand: {line}"
    assert (target / "app" / "models" / "letter.py").exists()
    assert "Letter" not in (target / "app" / "models" / "__init__.py").read_text()

    (target / "app" / "broken.py").write_text("import nowhere\n")
    main.write_text(f"import app.broken\n{main.read_text()}")
    before = status(target)
    done = new(target, "model", "Parcel")
    assert done.returncode == 2
    assert "No module named 'nowhere'" in done.stderr
    assert "Traceback" not in done.stderr
    assert status(target) == before


def test_a_file_that_cannot_be_written_leaves_nothing(queue_service: Path, tmp_path: Path) -> None:
    """A file is in place of the folder `tests`, because root may write to every folder."""
    target = duplicate(queue_service, tmp_path / "service")
    git(target, "mv", "tests", "elsewhere")
    (target / "tests").write_text("")
    before = status(target)
    done = new(target, "migration", "split_bills")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("error: ")
    assert done.stderr.endswith("Not a directory. Nothing was written.\n")
    assert len(done.stderr.splitlines()) == 1
    assert status(target) == before
    assert not (target / "app" / "migrations").exists()


def test_a_module_in_place_of_a_folder(queue_service: Path, tmp_path: Path) -> None:
    """A project that adopted `core/` may have `app/models.py`, which a new folder would hide."""
    target = duplicate(queue_service, tmp_path / "service")
    git(target, "mv", "app/models/__init__.py", "app/models.py")
    before = status(target)
    done = new(target, "model", "Parcel")
    problem = "app/models.py exists, and new files would be in app/models/."
    hint = "Make it a package first: move it to app/models/__init__.py. Nothing was written."
    assert (done.returncode, done.stdout, done.stderr) == (2, "", f"error: {problem} {hint}\n")
    assert status(target) == before

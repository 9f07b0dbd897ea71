"""The ownership rule: an update changes core/ and the answers file only, and never drops an edit without a word."""

import hashlib
import shutil
from pathlib import Path

import pytest
from conftest import COPIER, UV, commit_all, copy, git, run


@pytest.fixture
def newer(template: Path, tmp_path: Path) -> Path:
    """A clone of the template with a version v0.2.0 that changes files on both sides of the line."""
    clone = tmp_path / "template"
    run("git", "clone", "--quiet", str(template), str(clone), cwd=tmp_path)
    rendered = clone / "template"
    for path in [*rendered.glob("app/**/*.py"), rendered / "Justfile", rendered / "compose.yaml"]:
        path.write_text(path.read_text() + "\n# of v0.2.0\n")
    for path in (rendered / "core").rglob("*.py"):
        path.write_text(path.read_text() + "\n# of v0.2.0\n")
    (rendered / "app" / "new.py").write_text("")
    (rendered / "core" / "new.py").write_text('"""New."""\n')
    (rendered / "README.md.jinja").unlink()
    commit_all(clone, "v0.2.0")
    git(clone, "tag", "v0.2.0")
    return clone


def hashes(folder: Path) -> dict[str, str]:
    """What is in each file, also in those that git ignores."""
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and ".git" not in path.relative_to(folder).parts
    }


def is_the_templates(name: str) -> bool:
    return name.startswith("core/") or name == ".copier-answers.yml"


def users_edits(project: Path) -> None:
    """Edits, a deletion, a renamed and a new file, and one that git ignores."""
    (project / "app" / "routes" / "accounts.py").write_text("# all mine\n")
    (project / "app" / "tasks" / "emails.py").unlink()
    (project / "app" / "models").rename(project / "app" / "documents")
    (project / "app" / "core").mkdir()
    (project / "app" / "core" / "__init__.py").write_text("# a folder named like the template's\n")
    (project / "README.md").write_text("mine\n")
    (project / "Justfile").write_text((project / "Justfile").read_text() + "\nlint:\n    echo my own lint\n")
    commit_all(project, "mine")
    (project / ".env").write_text("SECRET_KEY=mine\n")


def update(project: Path, *options: str, check: bool = True) -> str:
    command = [COPIER, "update", "--trust", "--defaults", *options]
    done = run(*command, cwd=project, check=check)
    assert check or done.returncode
    return done.stdout + done.stderr


def test_an_update_changes_core_only(newer: Path, tmp_path: Path) -> None:
    project = copy(newer, tmp_path / "service", "--vcs-ref=v0.1.0")
    users_edits(project)
    before = hashes(project)

    update(project)

    after = hashes(project)
    changed = {name for name in before.keys() | after.keys() if before.get(name) != after.get(name)}
    assert all(is_the_templates(name) for name in changed), changed
    assert {"core/new.py", "core/tasks/worker.py", ".copier-answers.yml"} <= changed


def test_edits_in_core_are_merged(newer: Path, tmp_path: Path) -> None:
    project = copy(newer, tmp_path / "service", "--vcs-ref=v0.1.0")
    config = project / "core" / "config.py"
    config.write_text("# mine\n" + config.read_text())
    commit_all(project, "mine")

    update(project)

    assert config.read_text().startswith("# mine\n")
    assert config.read_text().endswith("# of v0.2.0\n")


def test_a_conflict_is_named_and_fails(newer: Path, tmp_path: Path) -> None:
    project = copy(newer, tmp_path / "service", "--vcs-ref=v0.1.0")
    config = project / "core" / "config.py"
    config.write_text(config.read_text() + "\n# mine\n")
    commit_all(project, "mine")

    output = update(project, check=False)

    assert "core/config.py: your edit and the update's touch the same lines" in output
    assert "# mine" in config.read_text()


@pytest.mark.parametrize("answer", [True, False])
def test_another_answer_changes_core_only(template: Path, tmp_path: Path, answer: bool) -> None:
    project = copy(template, tmp_path / "service", enable_job_queue=not answer)
    users_edits(project)
    before = hashes(project)

    update(project, "--data", f"enable_job_queue={answer}")

    after = hashes(project)
    changed = {name for name in before.keys() | after.keys() if before.get(name) != after.get(name)}
    assert all(is_the_templates(name) for name in changed), changed
    assert (project / "core" / "tasks" / "engines" / "streaq").exists() is answer


@pytest.mark.parametrize("command", [["recopy", "--trust"], ["copy"]])
def test_copying_again_overwrites_nothing_of_the_users(template: Path, tmp_path: Path, command: list[str]) -> None:
    project = copy(template, tmp_path / "service")
    users_edits(project)
    before = hashes(project)

    source = [str(template), "."] if command == ["copy"] else []
    run(COPIER, *command, "--quiet", "--defaults", "--overwrite", *source, cwd=project)

    after = hashes(project)
    lost = {name for name in before if not is_the_templates(name) and before[name] != after.get(name)}
    assert lost == set()


def test_both_variants_have_the_same_app(template: Path, tmp_path: Path) -> None:
    with_queue = hashes(copy(template, tmp_path / "with"))
    without = hashes(copy(template, tmp_path / "without", enable_job_queue=False))
    # The lock follows the dependencies of core; the README tells what there is.
    differ = {name for name in with_queue.keys() | without.keys() if with_queue.get(name) != without.get(name)}
    outside = {name for name in differ if not is_the_templates(name)}
    assert outside == {"uv.lock", "README.md"}


def test_names_of_the_users_own_break_nothing(template: Path, newer: Path, tmp_path: Path) -> None:
    """A recipe, a variable, a service and a dependency that core has too."""
    project = copy(newer, tmp_path / "service", "--vcs-ref=v0.1.0")
    justfile = (project / "Justfile").read_text()
    (project / "Justfile").write_text(justfile + '\nuv := "mine"\n\n# my own\nlint:\n    @echo my own {{ uv }}\n')
    (project / "core" / "justfile").write_text('uv := "core"\n' + (project / "core" / "justfile").read_text())
    pyproject = (project / "pyproject.toml").read_text()
    (project / "pyproject.toml").write_text(pyproject.replace('["core"]', '["core", "fastapi>=0.160", "structlog"]'))
    compose = (project / "compose.yaml").read_text()
    (project / "compose.yaml").write_text(compose + "\nservices:\n  mine:\n    image: busybox\n")
    commit_all(project, "mine")

    update(project)

    run(UV, "sync", "--quiet", cwd=project)
    assert run(UV, "run", "just", "lint", cwd=project).stdout == "my own mine\n"
    assert "lint" in run(UV, "run", "just", "--list", cwd=project).stdout
    shutil.rmtree(project / ".venv")

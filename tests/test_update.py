"""Updates of real services: they change core/ and the answers file only, and report lost edits."""

import hashlib
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from conftest import COPIER, ROOT, UV, clean_environment, commit_all, copy, git, run, snapshot
from test_release import run_release

from core.update import EXIT_CONFLICTS

FIRST_RELEASE = "v1.0.0"
RELEASES = git(ROOT, "tag", "--list", "v*").split()


@pytest.fixture
def newer(small_template: Path, tmp_path: Path) -> Path:
    """Return a clone of the small template. Its v0.2.0 changes files in and outside core/."""
    clone = tmp_path / "template"
    run("git", "clone", "--quiet", str(small_template), str(clone), cwd=tmp_path)
    rendered = clone / "template"
    for path in [*rendered.glob("app/**/*.py"), rendered / "Justfile", rendered / "compose.yaml"]:
        append(path, "\n# of v0.2.0\n")
    for path in (rendered / "core").rglob("*.py"):
        append(path, "\n# of v0.2.0\n")
    (rendered / "app" / "new.py").write_text("")
    (rendered / "core" / "new.py").write_text('"""New."""\n')
    (rendered / "README.md.jinja").unlink()
    setting = "    brand_new: int = 1\n"
    settings = rendered / "core" / "config" / "settings.py"
    replace(settings, "    host: str", f"{setting}    host: str")
    section = "## [0.2.0] - 2027-01-01\n\n### By hand\n\n- Feed the cat."
    replace(clone / "CHANGELOG.md", "## ", f"{section}\n\n## ")
    commit_all(clone, "v0.2.0")
    git(clone, "tag", "v0.2.0")
    return clone


def hashes(folder: Path) -> dict[str, str]:
    """Return the hash of each file, including the files that git ignores."""
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and ".git" not in path.relative_to(folder).parts
    }


def differences(before: dict[str, str], after: dict[str, str]) -> set[str]:
    """Return the names of the files that differ, from two results of `hashes`."""
    names = before.keys() | after.keys()
    return {name for name in names if before.get(name) != after.get(name)}


def replace(path: Path, old: str, new: str) -> None:
    """Replace the first occurrence of a text in a file."""
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new, 1))


def prepend(path: Path, text: str) -> None:
    path.write_text(text + path.read_text())


def append(path: Path, text: str) -> None:
    path.write_text(path.read_text() + text)


def belongs_to_template(name: str) -> bool:
    return name.startswith("core/") or name == ".copier-answers.yml"


def edit_as_user(project: Path) -> None:
    """Edit, delete, rename and add files, one of which git ignores."""
    (project / "app" / "routes" / "accounts.py").write_text("# all mine\n")
    (project / "app" / "tasks" / "emails.py").unlink()
    (project / "app" / "models").rename(project / "app" / "documents")
    (project / "app" / "core").mkdir()
    (project / "app" / "core" / "__init__.py").write_text("# named like the template's folder\n")
    (project / "README.md").write_text("mine\n")
    append(project / "Justfile", "\nlint:\n    echo my own lint\n")
    commit_all(project, "mine")
    (project / ".env").write_text("SECRET_KEY=mine\n")


def update(project: Path, *options: str, check: bool = True) -> str:
    """Run plain `copier update`, and return its output."""
    command = [COPIER, "update", "--trust", "--defaults", *options]
    done = run(*command, cwd=project, check=check)
    assert check or done.returncode
    return done.stdout + done.stderr


def just_update(project: Path, *options: str, status: int = 0) -> str:
    """Run the command of `just update` with the installed Copier, and return its output."""
    if "--undo" not in options:
        options = ("--defaults", *options)
    command = [sys.executable, "-B", "-m", "core.update", *options]
    done = run(*command, cwd=project, check=False)
    assert done.returncode == status, done.stdout + done.stderr
    return done.stdout + done.stderr


def check_commit_is_refused(project: Path) -> None:
    """Check that git refuses to commit while there are conflicts."""
    git(project, "add", ".copier-answers.yml")
    done = run("git", "commit", "-m", "too early", cwd=project, check=False)
    assert done.returncode
    assert "unmerged files" in done.stderr


def test_an_update_changes_core_only(newer: Path, tmp_path: Path) -> None:
    project = copy(newer, tmp_path / "service", "--vcs-ref=v0.1.0")
    edit_as_user(project)
    before = hashes(project)

    update(project)

    changed = differences(before, hashes(project))
    assert all(belongs_to_template(name) for name in changed), changed
    assert {"core/new.py", "core/tasks/worker.py", ".copier-answers.yml"} <= changed


def test_edits_in_core_are_merged(newer: Path, tmp_path: Path) -> None:
    project = copy(newer, tmp_path / "service", "--vcs-ref=v0.1.0")
    config = project / "core" / "config" / "settings.py"
    prepend(config, "# mine\n")
    commit_all(project, "mine")

    update(project)

    assert config.read_text().startswith("# mine\n")
    assert config.read_text().endswith("# of v0.2.0\n")


def test_an_update_with_a_conflict_fails(newer: Path, tmp_path: Path) -> None:
    project = copy(newer, tmp_path / "service", "--vcs-ref=v0.1.0")
    config = project / "core" / "config" / "settings.py"
    append(config, "\n# mine\n")
    commit_all(project, "mine")

    output = update(project, check=False)

    assert "core/config/settings.py: you and the update changed the same lines" in output
    assert "# mine" in config.read_text()


def test_edits_in_renamed_and_deleted_files_are_kept(
    newer: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The user's git configuration has no influence."""
    settings = tmp_path / "gitconfig"
    settings.write_text(
        "[merge]\n ff = only\n renames = false\n"
        "[core]\n autocrlf = input\n"
        "[diff]\n noprefix = true\n"
    )
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", str(settings))
    git(newer, "mv", "template/core/tasks/upkeep.py", "template/core/tasks/keeping.py")
    git(newer, "rm", "--quiet", "template/core/tasks/metrics.py")
    commit_all(newer, "v0.3.0")
    git(newer, "tag", "v0.3.0")
    project = copy(newer, tmp_path / "service", "--vcs-ref=v0.1.0")
    core = project / "core"
    for name in ("upkeep.py", "metrics.py"):
        prepend(core / "tasks" / name, "# mine\n")
    (core / "tasks" / "watchdog.py").unlink()
    (core / "logo.bin").write_bytes(b"\0mine")
    (core / "run.sh").symlink_to("nowhere")
    commit_all(project, "mine")

    output = just_update(project, status=EXIT_CONFLICTS)

    assert (core / "tasks" / "keeping.py").read_text().startswith("# mine\n")
    assert not (core / "tasks" / "upkeep.py").exists()
    assert "core/tasks/metrics.py: you edited it and the update deleted it" in output
    assert (core / "tasks" / "metrics.py").read_text().startswith("# mine\n")
    note = "core/tasks/watchdog.py: you deleted it, so the update does not bring it back."
    assert note in output
    assert not (core / "tasks" / "watchdog.py").exists()
    assert (core / "logo.bin").read_bytes() == b"\0mine"
    assert (core / "run.sh").readlink() == Path("nowhere")
    assert "UD core/tasks/metrics.py" in git(project, "status", "--porcelain")
    check_commit_is_refused(project)


def test_ignored_files_in_core_stay(newer: Path, tmp_path: Path) -> None:
    """They stay even if the new version has a file or a folder of the same name."""
    (newer / "template" / "core" / "cache").mkdir()
    (newer / "template" / "core" / "cache" / "file.py").write_text('"""New."""\n')
    (newer / "template" / "core" / "logs").write_text("a file\n")
    commit_all(newer, "v0.3.0")
    git(newer, "tag", "v0.3.0")
    project = copy(newer, tmp_path / "service", "--vcs-ref=v0.1.0")
    core = project / "core"
    (project / ".gitignore").write_text("new.py\n/core/cache\n*.log\n")
    commit_all(project, "mine")
    (core / "new.py").write_text("mine\n")
    (core / "cache").write_text("mine\n")
    (core / "logs").mkdir()
    (core / "logs" / "a.log").write_text("mine\n")

    output = just_update(project, status=EXIT_CONFLICTS)

    assert "core/new.py: core/new.py has content that is not in git, so it stays" in output
    assert "core/cache/file.py: core/cache has content that is not in git, so it stays" in output
    assert "core/logs: core/logs has content that is not in git, so it stays" in output
    for name in ("new.py", "cache", "logs/a.log"):
        assert (core / name).read_text() == "mine\n"
    check_commit_is_refused(project)
    assert git(project, "show", ":3:./core/cache/file.py") == '"""New."""\n'
    assert "To undo the update, run: just update --undo" in output
    just_update(project, "--undo")
    assert git(project, "status", "--porcelain") == ""
    assert (core / "new.py").read_text() == "mine\n"


def test_an_update_prints_what_is_new(newer: Path, tmp_path: Path) -> None:
    project = copy(newer, tmp_path / "service", "--vcs-ref=v0.1.0")
    output = just_update(project, "--check", status=5)
    assert output.startswith("v0.2.0 is available. This service is at v0.1.0.\n")
    assert "New settings (see core/config/settings.py): BRAND_NEW\n" in output
    assert "Changed as in the template:\n" in output
    assert git(project, "status", "--porcelain") == ""
    lock = (project / "uv.lock").read_text()

    output = just_update(project)

    news = "## [0.2.0] - 2027-01-01\n\n### By hand\n\n- Feed the cat."
    assert f"What is new:\n\n{news}\n\nNew settings" in output
    assert "New settings (see core/config/settings.py): BRAND_NEW\n" in output
    assert "Next, run `just ci`. It also runs the tests of core/" in output
    assert (project / "uv.lock").read_text() == lock  # no dependency has changed
    commit_all(project, "updated")
    assert just_update(project, "--check") == "v0.2.0 is the newest version.\n"
    assert just_update(project) == "Nothing to update from v0.2.0 to v0.2.0.\n"
    assert git(project, "status", "--porcelain") == ""


def test_the_lock_is_updated(newer: Path, tmp_path: Path) -> None:
    pyproject = newer / "template" / "core" / "pyproject.toml.jinja"
    replace(pyproject, "dependencies = [", 'dependencies = [\n    "iniconfig",')
    commit_all(newer, "v0.3.0")
    git(newer, "tag", "v0.3.0")
    project = copy(newer, tmp_path / "service", "--vcs-ref=v0.1.0")
    assert "uv.lock has the new dependencies of core/" in just_update(project)
    run(UV, "lock", "--check", cwd=project)


def test_an_update_over_several_versions(newer: Path, tmp_path: Path) -> None:
    """One update and several steps have the same result, in a file that each version changes."""
    for path in (newer / "template" / "core").rglob("*.py"):
        prepend(path, "# of v0.3.0\n")
    commit_all(newer, "v0.3.0")
    git(newer, "tag", "v0.3.0")
    found = []
    for name, steps in (("steps", ["v0.2.0", "v0.3.0"]), ("once", ["v0.3.0"])):
        project = copy(newer, tmp_path / name, "--vcs-ref=v0.1.0")
        config = project / "core" / "config" / "settings.py"
        replace(config, "MongoUrl =", "# mine\nMongoUrl =")
        edit_as_user(project)
        for version in steps:
            just_update(project, "--to", version)
            commit_all(project, version)
        assert "# mine\nMongoUrl" in config.read_text()
        found.append(hashes(project))
    assert {name for name in differences(*found) if not name.startswith(".")} == set()


@pytest.mark.parametrize("release", RELEASES or [FIRST_RELEASE])
def test_an_update_from_every_release(template: Path, tmp_path: Path, release: str) -> None:
    """The app of an old version, with edits in and outside core/, works with the new core/.

    Before the first release, the clone releases the current files as the first version.
    """
    source = ROOT if RELEASES else template
    template = tmp_path / "template"
    run("git", "clone", "--quiet", str(source), str(template), cwd=tmp_path)
    if not RELEASES:
        run_release(template, release)
    git(template, "rm", "--quiet", "-r", ".")
    snapshot(template, "v1000.0.0")
    assert git(template, "tag", "--list", release)
    project = copy(template, tmp_path / "service", f"--vcs-ref={release}")
    prepend(project / "core" / "process.py", "# mine\n")
    (project / "tests" / "test_mine.py").write_text("def test_mine() -> None: ...\n")
    commit_all(project, "mine")

    just_update(project)

    changed = git(project, "diff", "--name-only", "HEAD", "--", ".", ":!core", ":!uv.lock")
    assert changed == ".copier-answers.yml\n"
    assert (project / "core" / "process.py").read_text().startswith("# mine\n")
    run(UV, "sync", "--quiet", "--locked", cwd=project)
    # Before the first release nothing but the version differs, so a few tests are enough.
    tests = ["tests"] if RELEASES else ["tests/test_mine.py", "tests/test_settings.py"]
    assert " passed" in run(UV, "run", "just", "test", "-q", *tests, cwd=project).stdout


PLACES = ["alone", "in a folder", "another answers file", "into a repository"]


@pytest.mark.parametrize("place", PLACES)
def test_an_update_in_any_folder(newer: Path, tmp_path: Path, place: str) -> None:
    """The service may be part of a repository, or have another answers file."""
    top = tmp_path / "service"
    options = ["--answers-file", ".groundwork.yml"] if place == "another answers file" else []
    if place in ("in a folder", "into a repository"):
        top.mkdir()
        (top / "README.md").write_text("here before\n")
        git(top, "init", "--quiet", "--initial-branch=main")
        commit_all(top, "before")
    project = top / "service" if place == "in a folder" else top
    copy(newer, project, "--vcs-ref=v0.1.0", *options)
    if place == "in a folder":
        shutil.rmtree(project / ".git")
    edit_as_user(project)
    commit_all(top, "all")
    before = hashes(top)

    just_update(project)

    after = hashes(top)
    own = f"{project.relative_to(top)}/".removeprefix("./")
    changed = {name.removeprefix(own) for name in differences(before, after)}
    answers = ".groundwork.yml" if options else ".copier-answers.yml"
    assert {name for name in changed if not name.startswith("core/")} == {answers}
    assert "core/new.py" in changed
    if place == "into a repository":
        assert after["README.md"] == before["README.md"]


def spoil_answers(text: str, keep_source: bool = False) -> Callable[[Path], None]:
    def spoil(project: Path) -> None:
        answers = project / ".copier-answers.yml"
        lines = answers.read_text().splitlines(keepends=True)
        kept = [line for line in lines if keep_source and line[0] == "_"]
        answers.write_text("".join([*kept, f"{text}\n"]))
        commit_all(project, "spoiled")

    return spoil


def move_template(place: str) -> Callable[[Path], None]:
    def move(project: Path) -> None:
        answers = project / ".copier-answers.yml"
        answers.write_text(re.sub("_src_path: .*", f"_src_path: {place}", answers.read_text()))
        commit_all(project, "moved")

    return move


def edit_readme(project: Path) -> None:
    (project / "README.md").write_text("edited")


def remove_git(project: Path) -> None:
    shutil.rmtree(project / ".git")


def remove_answers(project: Path) -> None:
    (project / ".copier-answers.yml").unlink()


@pytest.mark.parametrize(
    ("spoil", "expected"),
    [
        (edit_readme, "Commit your changes first"),
        (remove_git, "git init && git add --all && git commit"),
        (remove_answers, ".copier-answers.yml is missing. `git log"),
        (spoil_answers("]["), ".copier-answers.yml cannot be read. `git log -p"),
        (spoil_answers("a: 1"), ".copier-answers.yml has no _src_path. `git log -p"),
        (spoil_answers("_src_path: /"), ".copier-answers.yml has no _commit. `git log -p"),
        (move_template("/nowhere/at/all"), "no template was found at /nowhere/at/all. Correct"),
        (move_template("https://127.0.0.1:1/x.git"), "change _src_path in .copier-answers"),
        (spoil_answers("enable_job_queue: perhaps", keep_source=True), "enable_job_queue"),
    ],
)
def test_an_error_is_one_line(
    newer: Path, tmp_path: Path, spoil: Callable[[Path], None], expected: str
) -> None:
    project = copy(newer, tmp_path / "service", "--vcs-ref=v0.1.0")
    spoil(project)
    before = hashes(project)

    output = just_update(project, status=2)

    assert output.startswith("error: ")
    assert expected in output
    assert output.count("\n") == 1
    assert hashes(project) == before


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        (["--to", "v9"], "v9"),
        (["--to", "v0.1.0"], "this service is at v0.2.0, and v0.1.0 is older"),
        (["--data", "enable_queue=true"], "the template has no question enable_queue"),
        (["--data", "enable_job_queue=perhaps"], "enable_job_queue"),
    ],
)
def test_invalid_options_are_refused(
    newer: Path, tmp_path: Path, options: list[str], expected: str
) -> None:
    project = copy(newer, tmp_path / "service", "--vcs-ref=v0.2.0")
    before = hashes(project)
    output = just_update(project, *options, status=2)
    assert re.match(f"error: .*{re.escape(expected)}.*\n$", output)
    assert hashes(project) == before


@pytest.mark.parametrize(
    ("old", "new", "has_redis"),
    [
        ("enable_job_queue=false", "enable_job_queue=true", True),
        ("enable_job_queue=true", "enable_job_queue=false", False),
        ("task_engine=redis", "task_engine=celery", False),
    ],
)
def test_another_answer_changes_core_only(
    small_template: Path, tmp_path: Path, old: str, new: str, has_redis: bool
) -> None:
    project = copy(small_template, tmp_path / "service", "--data", old)
    edit_as_user(project)
    before = hashes(project)

    update(project, "--data", new)

    changed = differences(before, hashes(project))
    assert all(belongs_to_template(name) for name in changed), changed
    assert (project / "core" / "tasks" / "engines" / "redis").exists() is has_redis


@pytest.mark.parametrize("command", [["recopy", "--trust"], ["copy"]])
def test_copying_again_keeps_the_users_files(
    small_template: Path, tmp_path: Path, command: list[str]
) -> None:
    project = copy(small_template, tmp_path / "service")
    edit_as_user(project)
    before = hashes(project)

    source = [str(small_template), "."] if command == ["copy"] else []
    run(COPIER, *command, "--quiet", "--defaults", "--overwrite", *source, cwd=project)

    lost = differences(before, hashes(project)) & before.keys()
    assert all(belongs_to_template(name) for name in lost), lost


def test_both_variants_have_the_same_app(template: Path, tmp_path: Path) -> None:
    with_queue = hashes(copy(template, tmp_path / "with"))
    without = hashes(copy(template, tmp_path / "without", enable_job_queue=False))
    # The lock has the dependencies of core/, and the README lists the processes.
    changed = differences(with_queue, without)
    outside = {name for name in changed if not belongs_to_template(name)}
    assert outside == {"uv.lock", "README.md"}


def test_the_user_may_use_the_names_of_core(newer: Path, tmp_path: Path) -> None:
    """The names are a recipe, a variable, a Compose service and a dependency."""
    project = copy(newer, tmp_path / "service", "--vcs-ref=v0.1.0")
    recipe = "# my own\nlint:\n    @echo my own {{ uv }}\n"
    append(project / "Justfile", f'\nuv := "mine"\n\n{recipe}')
    prepend(project / "core" / "justfile", 'uv := "core"\n')
    dependencies = '    "core",\n    "fastapi>=0.160",\n    "structlog",\n'
    replace(project / "pyproject.toml", '    "core",\n', dependencies)
    append(project / "compose.yaml", "\nservices:\n  mine:\n    image: busybox\n")
    commit_all(project, "mine")

    update(project)

    run(UV, "sync", "--quiet", cwd=project)
    assert run(UV, "run", "just", "lint", cwd=project).stdout == "my own mine\n"
    assert "lint" in run(UV, "run", "just", "--list", cwd=project).stdout
    shutil.rmtree(project / ".venv")


def test_an_update_starts_in_spite_of_conflicts(newer: Path, tmp_path: Path) -> None:
    """The user's dependency fits the new version only, and just refuses the user's Justfile.

    A stand-in for uvx takes the installed Copier.
    """
    bounds = newer / "template" / "core" / "pyproject.toml.jinja"
    replace(bounds, "fastapi>=0.165,", "fastapi>=0.160,")
    commit_all(newer, "v0.3.0")
    git(newer, "tag", "v0.3.0")
    project = copy(newer, tmp_path / "service", "--vcs-ref=v0.1.0")
    replace(project / "pyproject.toml", '    "core",\n', '    "core",\n    "fastapi==0.164.0",\n')
    append(project / "Justfile", "\nalias lint := test\n")
    commit_all(project, "mine")
    done = run(UV, "run", "just", "update", cwd=project, check=False)
    assert done.returncode
    assert "requirements are unsatisfiable" in " ".join(done.stderr.split())

    uvx = tmp_path / "bin" / "uvx"
    uvx.parent.mkdir()
    uvx.write_text(f"""#!/bin/sh
while [ "$1" != python ]; do shift; done
shift
exec {sys.executable} "$@"
""")
    uvx.chmod(0o755)
    path = f"{uvx.parent}:{os.environ['PATH']}"
    updated = subprocess.run(
        ["sh", "core/update.sh", "--defaults"],
        cwd=project,
        env={**clean_environment(), "PATH": path, "UV": UV},
        capture_output=True,
        text=True,
    )
    assert updated.returncode == 0, updated.stdout + updated.stderr
    assert "Updated from v0.1.0 to v0.3.0." in updated.stdout
    assert 'name = "fastapi"\nversion = "0.164.0"' in (project / "uv.lock").read_text()

"""`script/release` releases the whole of a version in a clone, or changes nothing."""

import re
import subprocess
from datetime import UTC, datetime
from pathlib import Path

import pytest
from conftest import ROOT, clean_environment, commit_all, copy, git, run

AUTHOR = {
    "GIT_AUTHOR_NAME": "Test",
    "GIT_AUTHOR_EMAIL": "test@example.com",
    "GIT_COMMITTER_NAME": "Test",
    "GIT_COMMITTER_EMAIL": "test@example.com",
}
CHANGED = ["CHANGELOG.md", "pyproject.toml", "tests/released_api.txt", "uv.lock"]


def call_release(clone: Path, *arguments: str) -> "subprocess.CompletedProcess[str]":
    """Run `script/release`, with the environment of this repository instead of a new one."""
    environment = {**clean_environment(), **AUTHOR, "UV_PROJECT_ENVIRONMENT": str(ROOT / ".venv")}
    command = [str(clone / "script" / "release"), *arguments]
    return subprocess.run(
        command,
        cwd=clone,
        env=environment,
        capture_output=True,
        text=True,
        timeout=300,
        start_new_session=True,  # for signals to all its processes
    )


def run_release(clone: Path, tag: str) -> "subprocess.CompletedProcess[str]":
    """Release a version. CI has tested it."""
    done = call_release(clone, tag, "--skip-tests")
    assert done.returncode == 0, done.stdout + done.stderr
    return done


@pytest.fixture
def clone(template: Path, tmp_path: Path) -> Path:
    clone = tmp_path / "groundwork"
    run("git", "clone", "--quiet", str(template), str(clone), cwd=tmp_path)
    return clone


def describe(clone: Path) -> list[str]:
    """Return everything that a release changes."""
    return [
        git(clone, *command)
        for command in (["rev-parse", "HEAD"], ["status", "--porcelain"], ["tag"])
    ]


def edit(clone: Path, name: str, old: str, new: str) -> None:
    path = clone / name
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new, 1))


def test_a_release(clone: Path, tmp_path: Path) -> None:
    unreleased = (clone / "CHANGELOG.md").read_text().partition("## [Unreleased]\n")[2].strip()
    done = run_release(clone, "v1.0.0")
    assert "git push --atomic origin main v1.0.0\n" in done.stdout
    notes = re.findall(r"--notes-file (\S+)", done.stdout)[0]
    assert (clone / notes).read_text().strip() == unreleased

    assert git(clone, "status", "--porcelain") == ""
    assert git(clone, "diff", "--name-only", "HEAD~1", "HEAD").split() == CHANGED
    assert git(clone, "cat-file", "-t", "v1.0.0") == "tag\n"
    assert git(clone, "rev-parse", "v1.0.0^{commit}") == git(clone, "rev-parse", "HEAD")
    changelog = (clone / "CHANGELOG.md").read_text()
    today = datetime.now(UTC).date().isoformat()
    assert f"## [Unreleased]\n\n## [1.0.0] - {today}\n\n{unreleased}\n" in changelog
    assert "Release: 1.0.0\n" in (clone / "tests" / "released_api.txt").read_text()
    for name in ("pyproject.toml", "uv.lock"):
        assert 'name = "groundwork"\nversion = "1.0.0"\n' in (clone / name).read_text()

    service = copy(clone, tmp_path / "service")
    assert "_commit: v1.0.0\n" in (service / ".copier-answers.yml").read_text()
    assert (service / "core" / "CHANGELOG.md").read_text() == changelog

    before = describe(clone)
    for version, problem in (
        ("1.0.0", "1.0.0 is not newer than 1.0.0, which is released already."),
        ("0.9.9", "0.9.9 is not newer than 1.0.0, which is released already."),
        ("1.0.1", "CHANGELOG.md says nothing under [Unreleased]. Write what is new there."),
    ):
        done = call_release(clone, version, "--skip-tests")
        assert (done.returncode, done.stderr) == (1, f"error: {problem} Nothing was changed.\n")
    assert describe(clone) == before


def test_what_is_not_ready_is_refused(clone: Path) -> None:
    def refuse(version: str, problem: str) -> None:
        before = describe(clone)
        done = call_release(clone, version, "--skip-tests")
        assert done.returncode == 1
        assert done.stderr.startswith(f"error: {problem}"), done.stderr
        assert done.stderr.endswith("Nothing was changed.\n")
        assert len(done.stderr.splitlines()) == 1
        assert describe(clone) == before

    refuse("1.0", "'1.0' is not a version.")
    refuse("1.0.0rc1", "'1.0.0rc1' is not a version.")
    refuse("0.1.0", "0.1.0 is not newer than 0.1.0")
    (clone / "new.txt").touch()
    refuse("1.0.0", "there are changes.")
    (clone / "new.txt").unlink()
    git(clone, "switch", "--quiet", "--create", "other")
    refuse("1.0.0", "this is the branch other.")
    git(clone, "switch", "--quiet", "main")
    edit(clone, "CHANGELOG.md", "## [Unreleased]", "## Unreleased")
    commit_all(clone, "no section")
    refuse("1.0.0", "CHANGELOG.md says nothing under [Unreleased].")


@pytest.mark.parametrize(
    ("name", "old", "new", "says"),
    [
        ("template/core/errors.py", "An error that a user", "A fault that a user", "script/api"),
        ("template/core/recipes.just", "\nnew *arguments:", "\nmake *arguments:", "recipes: "),
    ],
)
def test_what_a_release_freezes_must_be_current(
    clone: Path, name: str, old: str, new: str, says: str
) -> None:
    edit(clone, name, old, new)
    commit_all(clone, "forgotten")
    before = describe(clone)
    done = call_release(clone, "1.0.0", "--skip-tests")
    assert done.returncode == 1
    assert says in done.stdout
    assert done.stderr.endswith("Correct what it says, and commit it. Nothing was changed.\n")
    assert describe(clone) == before


def test_the_tests_run_unless_they_are_skipped(clone: Path) -> None:
    """A stand-in for `script/test`, which takes too long here."""
    (clone / "script" / "test").write_text("#!/bin/sh\necho tested\nexit 1\n")
    commit_all(clone, "stand-in")
    before = describe(clone)
    done = call_release(clone, "1.0.0")
    assert done.returncode == 1
    assert "tested\n" in done.stdout
    assert "script/test` failed. Correct what it says" in done.stderr
    assert describe(clone) == before


@pytest.mark.parametrize("moment", ["tests", "tag"])
def test_an_interrupted_release_changes_nothing(clone: Path, moment: str) -> None:
    """Ctrl-C, which all processes get: while the tests run, or when git has just made the tag."""
    interrupt = "kill -INT 0; sleep 5"
    if moment == "tests":
        (clone / "script" / "test").write_text(f"#!/bin/sh\n{interrupt}\n")
        commit_all(clone, "stand-in")
    else:
        path = clone / ".git" / "hooks" / "reference-transaction"
        made = 'test "$1" = committed && grep -q refs/tags/'
        path.write_text(f"#!/bin/sh\nif {made}; then rm $0; {interrupt}; fi\n")
        path.chmod(0o755)
    before = describe(clone)
    done = call_release(clone, "1.0.0", *(["--skip-tests"] if moment == "tag" else []))
    assert done.returncode == 1
    assert done.stderr == "error: interrupted. Nothing was changed.\n"
    assert describe(clone) == before


@pytest.mark.parametrize(
    ("hook", "step"), [("pre-commit", "commit"), ("reference-transaction", "tag")]
)
def test_a_step_that_fails_takes_back_the_others(clone: Path, hook: str, step: str) -> None:
    """The first hook refuses the commit, and the second one refuses the tag."""
    path = clone / ".git" / "hooks" / hook
    refuse_tags = 'test "$1" != prepared || ! grep -q refs/tags/\n'
    path.write_text(f"#!/bin/sh\n{'exit 1' if hook == 'pre-commit' else refuse_tags}\n")
    path.chmod(0o755)
    before = describe(clone)
    done = call_release(clone, "1.0.0", "--skip-tests")
    assert done.returncode == 1
    assert done.stderr.endswith("Nothing was changed.\n")
    assert done.stderr.startswith(f"error: `git {step} ")
    assert describe(clone) == before

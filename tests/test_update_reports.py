"""The output of updates, and updates of unusual versions. A small template makes it fast."""

import os
import re
import signal
from pathlib import Path

import pytest
from conftest import commit_all, git, run
from test_update_corners import (
    COMMAND,
    JUST,
    MINE,
    NEW,
    PLAIN,
    edited,
    project,
    release,
    render,
    start_update,
    template,
    update,
)
from test_update_random import look, write

from core.update import EXIT_CONFLICTS
from core.update.conflicts import SERVICE_DELETION

__all__ = ["project", "template"]

QUESTION = b"""
sender:
  type: str
  help: Which address do emails come from?
  default: app@example.com
"""


def ask(template: Path, question: bytes, version: str) -> None:
    """Release a version with another question."""
    start = (template / "copier.yml").read_bytes().partition(b"\nsender")[0]
    (template / "copier.yml").write_bytes(start + question)
    release(template, {"core/two.py": version.encode()}, version)


def test_changes_outside_core_are_shown_and_not_made(template: Path, project: Path) -> None:
    files = ["core/two.py", "app/main.py", "app/new.py", "tests/new.py", ".github/new.yml"]
    release(template, dict.fromkeys(files, NEW))
    before = look(project)
    patch = update(project, 0, [*COMMAND, "--show-app"])
    assert look(project) == before
    changed = re.findall(r"^diff --git a/(\S+)", patch, re.MULTILINE)
    assert changed == [".github/new.yml", "app/main.py", "app/new.py", "tests/new.py"]
    write(project / "changes.patch", patch.encode())
    git(project, "apply", "changes.patch")
    for name in files[1:]:
        assert (project / name).read_bytes() == NEW
    assert (project / "core" / "two.py").read_bytes() != NEW


def test_drift_is_the_patch_of_the_user(template: Path, project: Path) -> None:
    nothing = "You have changed nothing in core/.\n"
    assert update(project, 0, [*COMMAND, "--drift"]) == nothing
    mine = edited(project / "core" / "one.py")
    write(project / "core" / "one.py", mine)
    write(project / "core" / "own.py", MINE)
    (project / "core" / "run.sh").unlink()
    write(project / "app" / "main.py", MINE)
    commit_all(project, "mine")
    release(template, {"core/one.py": NEW})
    patch = update(project, 0, [*COMMAND, "--drift"])
    changed = re.findall(r"^diff --git a/(\S+)", patch, re.MULTILINE)
    assert changed == ["core/one.py", "core/own.py", "core/run.sh"]
    other = render(template, project.parent / "other")
    write(other / "drift.patch", patch.encode())
    git(other, "apply", "drift.patch")
    assert (other / "core" / "one.py").read_bytes() == mine
    assert (other / "core" / "own.py").read_bytes() == MINE
    assert not (other / "core" / "run.sh").exists()


def test_new_and_renamed_questions_are_named(template: Path, project: Path) -> None:
    """Copier gives the default to a question that has a new name, and says nothing."""
    ask(template, QUESTION, "v0.2.0")
    new = "New question: sender. The answer is 'app@example.com'.\n"
    assert new in update(project, 0, [*COMMAND, "--dry-run"])
    assert new in update(project)
    commit_all(project, "v0.2.0")
    update(project, 0, [*JUST, "--to", "current", "--data", "sender=me@example.com"])
    commit_all(project, "my address")
    ask(template, QUESTION.replace(b"sender", b"sender_address"), "v0.3.0")
    gone = "The template no longer asks for sender. Your answer 'me@example.com' has no effect."
    before = look(project)
    for command, status in ((["--dry-run"], 0), (["--check"], 5)):
        output = update(project, status, [*COMMAND, *command])
        assert gone in output
        assert "New question: sender_address. The answer is 'app@example.com'." in output
    assert look(project) == before
    assert gone in update(project, 0, PLAIN)
    assert "sender_address: app@example.com" in (project / ".copier-answers.yml").read_text()


def move_tag(template: Path, amend: bool) -> None:
    """Move the tag v0.1.0 to a commit that changes a line. Amending loses the old commit."""
    write(template / "template" / "core" / "two.py", MINE)
    git(template, "add", "--all")
    git(template, "commit", "--quiet", "--message", "moved", *(["--amend"] if amend else []))
    git(template, "tag", "--force", "v0.1.0")
    git(template, "reflog", "expire", "--expire=now", "--all")
    git(template, "gc", "--quiet", "--prune=now")


def test_a_tag_that_moves_is_no_conflict(template: Path, project: Path) -> None:
    """The answers file also names the commit, and that is the version to compare with."""
    write(project / "core" / "one.py", edited(project / "core" / "one.py"))
    commit_all(project, "mine")
    move_tag(template, amend=False)
    release(template, {"core/two.py": NEW})
    assert "Updated from v0.1.0 to v0.2.0." in update(project)
    assert (project / "core" / "two.py").read_bytes() == NEW
    assert (project / "core" / "one.py").read_bytes().startswith(MINE)
    answers = (project / ".copier-answers.yml").read_text()
    assert f"_commit_hash: {git(template, 'rev-parse', 'HEAD').strip()}\n" in answers


def test_a_tag_that_moves_and_takes_its_commit_along_is_named(
    template: Path, project: Path
) -> None:
    move_tag(template, amend=True)
    release(template, {"core/two.py": NEW})
    output = update(project, EXIT_CONFLICTS)
    assert "The template has moved the tag v0.1.0, and no longer has the commit" in output
    assert "core/two.py: you and the update changed the same lines" in output


@pytest.mark.parametrize("command", [JUST, PLAIN], ids=["just", "copier"])
def test_a_deleted_file_of_the_engine_stays_deleted(
    template: Path, tmp_path: Path, command: list[str]
) -> None:
    """Without the job queue, the template does not have the engine."""
    engine = "core/tasks/engines/redis"
    release(template, {f"{engine}/{name}.py": NEW for name in ("kept", "gone")})
    project = render(template, tmp_path / "queue", version="v0.2.0")
    (project / engine / "gone.py").unlink()
    commit_all(project, "I deleted it")
    to_current = ["--to", "current"] if command == JUST else ["--vcs-ref", ":current:"]
    for answer in ("false", "true"):
        data = f"enable_job_queue={answer}"
        output = update(project, 0, [*command, *to_current, "--data", data])
        commit_all(project, data)
        assert (project / engine / "kept.py").exists() is (answer == "true")
        assert not (project / engine / "gone.py").exists()
    assert f"{engine}/gone.py: {SERVICE_DELETION}." in output
    assert f"{engine}/kept.py" not in output


@pytest.mark.parametrize("number", [3, 256])
def test_the_number_of_conflicts_is_no_status(
    template: Path, project: Path, tmp_path: Path, number: int
) -> None:
    """`git merge-file`, which another template uses, exits with the number of conflicts."""
    lines = [f"line {each}\n".encode() for each in range(number)]
    text, mine, theirs = (
        b"\n".join(line + word for line in lines) for word in (b"same\n" * 4, MINE, NEW)
    )
    release(template, {"core/long.py": text})
    project = render(template, tmp_path / "long", version="v0.2.0")
    write(project / "core" / "long.py", mine)
    commit_all(project, "mine")
    release(template, {"core/long.py": theirs}, "v0.3.0")
    update(project, EXIT_CONFLICTS)
    markers = re.findall(
        r"^(?:<<<<<<<|=======|>>>>>>>|\|\|\|\|\|\|\|).*",
        (project / "core" / "long.py").read_text(),
        re.MULTILINE,
    )
    # No marker shows a path of a temporary folder.
    assert {*markers} == {"<<<<<<< HEAD", "=======", ">>>>>>> update"}


def test_a_frozen_update_keeps_others_out(template: Path, project: Path) -> None:
    """As with SIGSTOP, or on a laptop that sleeps."""
    release(template, {f"core/many/{each}.py": NEW for each in range(300)})
    process = start_update(project, JUST, until=project / "core" / "many")
    try:
        os.killpg(process.pid, signal.SIGSTOP)
        frozen = look(project)
        assert process.poll() is None, "the update ended before the test could freeze it"
        output = update(project, 2)
        assert "another update of this repository is running" in output or "interrupted" in output
        assert look(project) == frozen
    finally:
        os.killpg(process.pid, signal.SIGCONT)
    output, _ = process.communicate(timeout=60)
    assert process.returncode == 0, output
    assert "Updated from v0.1.0 to v0.2.0." in output
    assert run("git", "status", "--porcelain", "core/many", cwd=project).stdout

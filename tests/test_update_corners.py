"""Updates of services with unusual git settings and files. A small template makes them fast."""

import contextlib
import fcntl
import json
import os
import random
import re
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterable
from pathlib import Path

import pytest
from conftest import clean_environment, commit_all, git, run
from copier import run_copy
from test_update_random import look, make_template, write

from core.update import EXIT_CONFLICTS
from core.update.conflicts import SERVICE_DELETION

PLAIN = ["-m", "copier", "update", "--trust", "--defaults", "--quiet"]
COMMAND = ["-B", "-m", "core.update"]
JUST = [*COMMAND, "--defaults"]
UNDO = [*COMMAND, "--undo"]
CONTINUE = [*COMMAND, "--continue"]
NEW = b"new\n"
MINE = b"mine\n"


@pytest.fixture
def template(tmp_path: Path) -> Path:
    folder = tmp_path / "template"
    folder.mkdir()
    make_template(folder)
    return folder


@pytest.fixture
def project(template: Path, tmp_path: Path) -> Path:
    return render(template, tmp_path / "project")


def render(template: Path, folder: Path, *options: str, version: str = "v0.1.0") -> Path:
    run_copy(str(template), folder, defaults=True, quiet=True, vcs_ref=version)
    git(folder, "init", "--quiet", "--initial-branch=main", *options)
    commit_all(folder, "rendered")
    return folder


def release(template: Path, files: dict[str, bytes], version: str = "v0.2.0") -> None:
    for name, content in files.items():
        write(template / "template" / name, content)
    git(template, "add", "--all", "--force")
    commit_all(template, version)
    git(template, "tag", version)


def update(project: Path, status: int = 0, command: list[str] = JUST) -> str:
    done = run(sys.executable, *command, cwd=project, check=False)
    assert done.returncode == status, done.stdout + done.stderr
    return done.stdout + done.stderr


def start_update(project: Path, command: list[str], until: Path) -> "subprocess.Popen[str]":
    """Start an update in its own process group, and wait until it has made a file or has ended."""
    process = subprocess.Popen(
        [sys.executable, *command],
        cwd=project,
        env=clean_environment(),
        start_new_session=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    while process.poll() is None and not until.exists():
        time.sleep(0.001)
    return process


def edited(path: Path) -> bytes:
    """Return a file's content with a line of the user on top."""
    return MINE + path.read_bytes()


@pytest.mark.parametrize("command", [JUST, PLAIN], ids=["just", "copier"])
def test_ignored_files_of_the_same_name_stay(
    template: Path, project: Path, command: list[str]
) -> None:
    release(template, {"core/new.log": NEW, "core/two.py": NEW})
    write(project / "core" / "new.log", MINE)
    output = update(project, EXIT_CONFLICTS if command == JUST else 1, command)
    assert "core/new.log: core/new.log has content that is not in git" in output
    assert (project / "core" / "new.log").read_bytes() == MINE
    assert (project / "core" / "two.py").read_bytes() == NEW


def test_a_service_newer_than_the_newest_version_stays(template: Path, tmp_path: Path) -> None:
    write(template / "template" / "core" / "two.py", NEW)
    commit_all(template, "unreleased")
    project = render(template, tmp_path / "project", version="HEAD")
    expected = r"Nothing to update: v0\.1\.0-1-g\w+ is newer than the newest release, v0\.1\.0\.\n$"
    assert re.match(expected, update(project))
    assert git(project, "status", "--porcelain") == ""


@pytest.mark.parametrize("flag", ["--assume-unchanged", "--skip-worktree"])
def test_edits_in_files_hidden_from_git_stay(template: Path, project: Path, flag: str) -> None:
    release(template, {"core/two.py": NEW, "app/main.py": NEW})
    for name in ("core/two.py", "app/main.py"):
        git(project, "update-index", flag, name)
        write(project / name, MINE)
    output = update(project, EXIT_CONFLICTS)
    assert "core/two.py: core/two.py has content that is not in git" in output
    for name in ("core/two.py", "app/main.py"):
        assert (project / name).read_bytes() == MINE


def test_a_deleted_file_hidden_from_git_stays(template: Path, project: Path) -> None:
    git(template, "rm", "--quiet", "template/core/two.py")
    release(template, {})
    git(project, "update-index", "--skip-worktree", "core/two.py")
    write(project / "core" / "two.py", MINE)
    output = update(project, EXIT_CONFLICTS)
    assert "core/two.py: the update deleted it. It has content that is not in git" in output
    assert (project / "core" / "two.py").read_bytes() == MINE


def test_untracked_files_are_found_even_if_status_hides_them(template: Path, project: Path) -> None:
    release(template, {"core/two.py": NEW})
    git(project, "config", "status.showUntrackedFiles", "no")
    write(project / "core" / "work.py", MINE)
    assert "Commit your changes first (or run `git stash -u`)" in update(project, 2)
    assert "Commit your changes first (or run `git stash -u`)" in update(project, 1, PLAIN)
    assert (project / "core" / "work.py").read_bytes() == MINE


def test_a_file_becomes_a_folder_and_a_folder_a_file(template: Path, project: Path) -> None:
    names = [f"template/core/{name}" for name in ("one.py", "sub", "link")]
    git(template, "rm", "--quiet", "-r", *names)
    release(template, {"core/one.py/inner.py": NEW, "core/sub": NEW})
    update(project)
    assert (project / "core" / "one.py" / "inner.py").read_bytes() == NEW
    assert (project / "core" / "sub").read_bytes() == NEW


def test_nothing_is_written_through_a_link(template: Path, project: Path) -> None:
    write(project / ".gitignore", b"/core/aside\n")
    commit_all(project, "mine")
    (project / "core" / "aside").symlink_to("../app")
    release(template, {"core/aside/deep/new.py": NEW})
    output = update(project, EXIT_CONFLICTS)
    assert "core/aside/deep/new.py: core/aside has content that is not in git" in output
    assert not (project / "app" / "deep").exists()


def test_a_new_file_that_is_ignored_reaches_the_next_commit(template: Path, project: Path) -> None:
    release(template, {"core/new.log": NEW})
    update(project)
    commit_all(project, "updated")
    assert "core/new.log" in git(project, "ls-files")


def test_a_file_that_was_never_committed_counts_as_untracked(
    template: Path, tmp_path: Path
) -> None:
    release(template, {"core/two.py": NEW})
    project = tmp_path / "project"
    run_copy(str(template), project, defaults=True, quiet=True, vcs_ref="v0.1.0")
    write(project / ".gitignore", b"/core/two.py\n")
    git(project, "init", "--quiet", "--initial-branch=main")
    commit_all(project, "rendered")
    output = update(project, EXIT_CONFLICTS)
    assert "core/two.py: core/two.py has content that is not in git" in output


def test_the_objects_of_conflicts_exist(template: Path, project: Path) -> None:
    """If both sides edit and move a file, git's index has blobs that neither side has."""
    (project / "core" / "one.py").rename(project / "core" / "mine.py")
    write(project / "core" / "mine.py", edited(project / "core" / "mine.py"))
    commit_all(project, "mine")
    one = template / "template" / "core" / "one.py"
    one.rename(one.with_name("theirs.py"))
    release(template, {"core/theirs.py": one.with_name("theirs.py").read_bytes() + NEW})
    update(project, EXIT_CONFLICTS)
    git(project, "diff")
    for line in git(project, "ls-files", "--unmerged").splitlines():
        git(project, "cat-file", "-e", line.split()[1])


@pytest.mark.parametrize("options", [["--object-format=sha256"], []], ids=["sha256", "spaces"])
def test_a_repository_of_another_format_or_name(
    template: Path, tmp_path: Path, options: list[str]
) -> None:
    project = render(template, tmp_path / " a folder ", *options)
    write(project / "core" / "two.py", edited(project / "core" / "two.py"))
    commit_all(project, "mine")
    two = template / "template" / "core" / "two.py"
    release(template, {"core/two.py": two.read_bytes() + NEW, "core/one.py": NEW})
    write(project / "core" / "new.log", MINE)
    update(project)
    assert (project / "core" / "two.py").read_bytes() == MINE + two.read_bytes()


def test_in_a_folder_with_a_space_before_its_name(template: Path, tmp_path: Path) -> None:
    project = tmp_path / "top" / " inner"
    run_copy(str(template), project, defaults=True, quiet=True, vcs_ref="v0.1.0")
    git(project.parent, "init", "--quiet", "--initial-branch=main")
    commit_all(project.parent, "rendered")
    release(template, {"core/two.py": NEW})
    update(project)
    assert (project / "core" / "two.py").read_bytes() == NEW


def test_line_ends_of_another_system(
    template: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = tmp_path / "gitconfig"
    settings.write_text("[core]\n autocrlf = true\n safecrlf = false\n")
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", str(settings))
    project = render(template, tmp_path / "project")
    git(project, "rm", "--quiet", "--cached", "-r", ".")
    git(project, "reset", "--quiet", "--hard")
    two = project / "core" / "two.py"
    write(two, MINE + two.read_bytes())
    commit_all(project, "mine")
    content = (template / "template" / "core" / "two.py").read_bytes()
    release(template, {"core/two.py": content + NEW})
    update(project)
    assert git(project, "show", "HEAD:core/two.py").startswith("mine\n")
    changed = git(project, "diff", "--numstat", "core/two.py").split()
    assert changed[:2] == ["1", "0"]


def test_git_variables_of_another_repository_are_refused(
    template: Path, project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    release(template, {"core/two.py": NEW})
    monkeypatch.setenv("GIT_INDEX_FILE", str(project / ".git" / "index"))
    assert update(project, 2) == "error: git points to another repository. Unset GIT_INDEX_FILE.\n"


def test_a_failure_while_writing_is_undone(template: Path, project: Path) -> None:
    release(template, {"core/new.py": NEW, "core/one.py": NEW, "core/two.py": NEW})
    git(project, "update-index", "--assume-unchanged", "app/main.py")
    write(project / "app" / "main.py", MINE)
    write(project / "core" / "own.log", MINE)
    write(project / ".git" / "info" / "exclude", b"*.update\n")
    (project / "core" / ".two.py.update").mkdir()  # the name of the draft
    before = look(project)
    assert "Nothing was changed" in update(project, 2)
    assert look(project) == before
    assert git(project, "status", "--porcelain") == ""
    assert "there is no update to finish or to undo" in update(project, 2, UNDO)


def test_a_failed_undo_says_so_and_can_be_repeated(template: Path, project: Path) -> None:
    write(project / "core" / "one.py", MINE)
    commit_all(project, "mine")
    release(template, {"core/new.py": NEW, "core/one.py": NEW, "core/two.py": NEW})
    write(project / ".git" / "info" / "exclude", b"*.update\n")
    hook = project / ".git" / "hooks" / "post-index-change"
    # A fault that begins when the update has already changed the index.
    fault = b"mkdir -p core/.two.py.update\ntouch .git/index.lock\n"
    write(hook, b"#!/bin/sh\n[ -d .git/core-update ] || exit 0\n" + fault)
    hook.chmod(0o755)
    before = look(project)
    output = update(project, 2)
    assert "The update was interrupted, and undoing it failed" in output
    assert "index.lock" in output
    assert "was interrupted" in update(project, 2)
    assert "index.lock" in update(project, 2, UNDO)
    assert "If none is running, delete that file" in update(project, 2, CONTINUE)
    hook.unlink()
    (project / ".git" / "index.lock").unlink()
    (project / "core" / ".two.py.update").rmdir()
    assert "was taken back" in update(project, 0, UNDO)
    assert look(project) == before
    assert git(project, "status", "--porcelain") == ""


def test_a_locked_index_changes_nothing(template: Path, project: Path) -> None:
    release(template, {"core/two.py": NEW})
    write(project / ".git" / "index.lock", b"")
    before = look(project)
    assert "index.lock exists: a git command is running, or was killed" in update(project, 2)
    assert look(project) == before


def test_two_updates_at_once(template: Path, project: Path) -> None:
    release(template, {"core/two.py": NEW})
    with (project / ".git" / "core-update.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        assert "another update of this repository is running" in update(project, 2)
        assert "another update of this repository is running" in update(project, 1, PLAIN)
        assert git(project, "status", "--porcelain") == ""
    update(project)
    assert (project / "core" / "two.py").read_bytes() == NEW


def test_an_update_is_taken_back_without_the_work_of_others(template: Path, project: Path) -> None:
    """Undoing changes only what the update wrote, and names what stays."""
    write(project / "core" / "one.py", MINE)
    write(project / "core" / "sub" / "three.py", MINE)
    commit_all(project, "mine")
    git(project, "update-index", "--assume-unchanged", "core/run.sh")
    write(project / "core" / "run.sh", MINE)
    files = ["core/one.py", "core/sub/three.py", "core/two.py", "core/new.py"]
    release(template, dict.fromkeys(files, NEW))
    before = look(project)
    output = update(project, EXIT_CONFLICTS)
    assert "To undo the update, run: just update --undo" in output
    write(project / "core" / "two.py", MINE)
    write(project / "core" / "own.py", MINE)
    write(project / "app" / "main.py", MINE)
    output = update(project, EXIT_CONFLICTS, UNDO)
    assert "core/two.py: you changed it since the update, so it stays." in output
    after = look(project)
    mine = {"core/two.py", "core/own.py", "app/main.py"}
    assert {name for name in after if after[name] != before.get(name)} == mine
    assert before.keys() <= after.keys()
    assert not git(project, "ls-files", "--unmerged")


@pytest.mark.parametrize("end", [UNDO, CONTINUE], ids=["undo", "continue"])
def test_an_update_whose_updater_is_half_replaced(
    template: Path, project: Path, end: list[str]
) -> None:
    """The journal holds the code that finishes or undoes an update."""
    code = (template / "template" / "core" / "update" / "service.py").read_bytes()
    release(template, {"core/two.py": NEW, "core/update/service.py": code + b"# new\n"})
    before = look(project)
    update(project)
    done = look(project)
    journal = project / ".git" / "core-update" / "journal.json"
    interrupted = json.loads(journal.read_text()) | {"is_done": False}
    journal.write_text(json.dumps(interrupted))
    write(project / "core" / "two.py", before["core/two.py"][1])
    for name in ("command.py", "journal.py", "git.py"):
        (project / "core" / "update" / name).unlink()
    assert "`just update --continue` finishes it" in update(project, 2)
    update(project, 0, end)
    expected = before if end == UNDO else done
    after = look(project)
    for name in ("core/two.py", "core/update/service.py", ".copier-answers.yml"):
        assert after[name] == expected[name]


@pytest.mark.parametrize("command", [JUST, PLAIN], ids=["just", "copier"])
def test_an_update_killed_at_any_moment(template: Path, project: Path, command: list[str]) -> None:
    """The next command says what happened, and ends or undoes it."""
    write(project / "core" / "one.py", MINE)
    commit_all(project, "mine")
    new = {f"core/many/{each}.py": NEW for each in range(300)}
    release(template, {**new, "core/one.py": NEW, "core/two.py": NEW})
    before = look(project)
    journal = project / ".git" / "core-update"
    ends = Counter[str]()
    for attempt in range(8 if command == JUST else 4):
        process = start_update(project, command, until=journal)
        time.sleep(attempt * 0.01)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.communicate()
        is_interrupted = (
            journal.exists() and not json.loads((journal / "journal.json").read_text())["is_done"]
        )
        lock = project / ".git" / "index.lock"
        if lock.exists():  # of a git command that was killed, too
            if is_interrupted:
                command_line = random.choice([UNDO, CONTINUE])
                assert "If none is running, delete that file" in update(project, 2, command_line)
            lock.unlink()
        if is_interrupted:
            assert "was interrupted" in update(project, 2)
            end = random.choice(["undo", "continue"])
            status = 0 if end == "undo" else EXIT_CONFLICTS
            output = update(project, status, [*COMMAND, f"--{end}"])
            assert (end == "undo") is ("core/one.py: " not in output)
        else:
            end = "done" if journal.exists() else "nothing"
        if end in ("continue", "done"):
            assert (project / "core" / "two.py").read_bytes() == NEW
            assert "_commit: v0.2.0" in (project / ".copier-answers.yml").read_text()
            assert git(project, "ls-files", "--unmerged")
            update(project, 0, UNDO)
        assert look(project) == before, end
        assert git(project, "status", "--porcelain") == ""
        ends[end] += 1
    assert ends["undo"] + ends["continue"], ends


def lines(name: str, numbers: Iterable[int]) -> bytes:
    return "".join(f"{name} line {number}\n" for number in numbers).encode()


@pytest.mark.parametrize("kept", [11, 7], ids=["alike", "less alike"])
def test_an_edit_that_moves_is_named(template: Path, project: Path, kept: int) -> None:
    """A line of the user must not reach an unrelated file silently."""
    name = "core/sub/three.py"
    write(project / name, MINE + lines(name, range(12)))
    commit_all(project, "mine")
    (template / "template" / name).unlink()
    renamed = lines(name, range(kept)) + lines("token", range(12 - kept))
    release(template, {"core/token.py": renamed})
    output = update(project, 0 if kept == 11 else EXIT_CONFLICTS)
    is_moved = MINE in (project / "core" / "token.py").read_bytes()
    assert is_moved is (kept == 11)
    if is_moved:
        assert f"core/token.py: the update moved {name} here, and your edit with it." in output
    else:
        assert f"{name}: you edited it and the update deleted it. It stays" in output
        assert MINE in (project / name).read_bytes()


def test_a_dry_run_shows_what_an_update_does(template: Path, project: Path) -> None:
    write(project / "core" / "one.py", MINE)
    write(project / "core" / "two.py", MINE + (project / "core" / "two.py").read_bytes())
    write(project / "core" / "own.py", MINE)
    (project / "core" / "run.sh").unlink()
    write(
        project / "app" / "main.py", b"from core.one import old_name\nfrom core.two import kept\n"
    )
    commit_all(project, "mine")
    theirs = (template / "template" / "core" / "two.py").read_bytes()
    files = {"core/one.py": NEW, "core/two.py": theirs + NEW, "core/sub/three.py": NEW}
    release(template, {**files, "core/run.sh": NEW, "core/CHANGELOG.md": b"## 2\n\nBetter.\n"})
    before = look(project)
    command = [*COMMAND, "--dry-run"]
    newest = [*command, "--to", "v0.1.0"]
    assert update(project, 0, newest) == "v0.1.0 is the newest version.\n"
    output = update(project, 0, command)
    names = update(project, 5, [*COMMAND, "--check"])
    assert look(project) == before
    assert git(project, "status", "--porcelain") == ""
    assert not (project / ".git" / "core-update").exists()
    for text in (output, names):
        assert "v0.2.0 is available. This service is at v0.1.0." in text
        assert "What is new:\n\n## 2\n\nBetter.\n" in text
        for title, name in (
            ("These files need you", "core/one.py: you and the update changed the same lines"),
            ("Merged with your changes", "core/two.py"),
            ("Changed as in the template", ".copier-answers.yml"),
            ("Yours, and not changed", "core/own.py"),
        ):
            section = text.partition(f"{title}:\n")[2].partition("\n\n")[0]
            assert f"  {name}" in section, text
        assert f"core/run.sh: {SERVICE_DELETION}." in text
    assert "\n+new\n" in output
    assert "\n+new\n" not in names


def test_a_name_that_the_new_version_lacks_is_named(template: Path, project: Path) -> None:
    code = b"def kept(): ...\n\n\ndef gone(): ...\n"
    release(template, {"core/names.py": code, "core/old.py": NEW}, "v0.2.0")
    update(project)
    mine = b"""import core.old
from core.names import gone, kept
from core import names
from core.nowhere import anything
"""
    write(project / "app" / "mine.py", mine)
    commit_all(project, "mine")
    (template / "template" / "core" / "old.py").unlink()
    release(template, {"core/names.py": code[:16]}, "v0.3.0")
    lost = """Change these lines of your code:
  app/mine.py:1: the new version has no core.old
  app/mine.py:2: the new version has no core.names.gone
"""
    assert lost in update(project, 0, [*COMMAND, "--dry-run"])
    assert lost in update(project)


def test_plain_copier_updates_if_git_ignores_the_answers_file(
    template: Path, project: Path
) -> None:
    write(project / ".git" / "info" / "exclude", b".copier-answers.yml\n")
    git(project, "rm", "--quiet", "--cached", ".copier-answers.yml")
    commit_all(project, "ignored")
    release(template, {"core/two.py": NEW})
    update(project, 0, PLAIN)
    assert (project / "core" / "two.py").read_bytes() == NEW
    assert "_commit: v0.2.0" in (project / ".copier-answers.yml").read_text()


def test_a_failure_of_plain_copier_restores_the_answers_file(template: Path, project: Path) -> None:
    """Otherwise the next update would start from a version that `core/` never had."""
    code = (template / "template" / "core" / "update" / "render.py").read_bytes()
    broken = b"\ndef render(*_, **__):\n    raise ValueError('out of luck')\n"
    release(template, {"core/update/render.py": code + broken})
    assert "error: out of luck\n" in update(project, 1, PLAIN)
    assert git(project, "status", "--porcelain") == ""


def test_merge_runs_by_its_old_path(template: Path, project: Path, tmp_path: Path) -> None:
    """Services from before the first release run `core/dev/merge.py`. It needs no package."""
    release(template, {"core/two.py": NEW})
    old = render(template, tmp_path / "old")
    new = render(template, tmp_path / "new", version="v0.2.0")
    script = new / "core" / "dev" / "merge.py"
    run(sys.executable, "-I", "-S", str(script), str(old), str(new), cwd=project)
    assert (project / "core" / "two.py").read_bytes() == NEW
    assert git(project, "status", "--porcelain") == " M .copier-answers.yml\n M core/two.py\n"


STOPPED_LATE = """
import sys
from core.update import command, service
journal_check, calls = service.Journal.check, []
def check(self):
    calls.append(self)
    if len(calls) > 1:  # the first call comes before the merge
        raise KeyboardInterrupt
    journal_check(self)
service.Journal.check = check
sys.exit(command.main(["--defaults", *sys.argv[1:]]))
"""


@pytest.mark.parametrize(
    ("options", "is_done"), [([], True), (["--dry-run"], False), (["--check"], False)]
)
def test_an_update_stopped_after_its_merge_is_done(
    template: Path, project: Path, options: list[str], is_done: bool
) -> None:
    release(template, {"core/two.py": NEW})
    done = run(sys.executable, "-B", "-c", STOPPED_LATE, *options, cwd=project, check=False)
    says_done = "The update is done, but uv.lock is outdated (stopped)." in done.stderr
    says_unchanged = "error: stopped, nothing was changed" in done.stderr
    assert (says_done, says_unchanged) == (is_done, not is_done), done.stderr
    assert (git(project, "status", "--porcelain") != "") is is_done


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_update_stopped_at_any_moment(
    template: Path, project: Path, number: signal.Signals
) -> None:
    """It is done or undone, and its message is true."""
    release(template, {f"core/many/{each}.py": NEW for each in range(60)})
    for delay in (0, 0.01, 0.03, 0.06, 0.1, 0.2):
        process = start_update(project, JUST, until=project / "core" / "many")
        time.sleep(delay)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, number)
        output, _ = process.communicate(timeout=60)
        is_clean = git(project, "status", "--porcelain", "--untracked-files=all") == ""
        is_done = "Updated from" in output or "The update is done" in output
        assert is_clean is not is_done, output
        assert is_clean or "_commit: v0.2.0" in (project / ".copier-answers.yml").read_text()
        git(project, "reset", "--quiet", "--hard")
        git(project, "clean", "--quiet", "--force", "-d")

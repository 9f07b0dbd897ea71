"""How an update ends: finished, taken back, or refused. A small template makes it fast."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import commit_all, git, run
from test_update_corners import (
    COMMAND,
    CONTINUE,
    JUST,
    MINE,
    NEW,
    PLAIN,
    UNDO,
    edited,
    project,
    release,
    render,
    template,
    update,
)
from test_update_random import look, write

from core.update import EXIT_CONFLICTS

__all__ = ["project", "template"]

FILES = {"core/new.py": NEW, "core/one.py": NEW, "core/two.py": NEW}


def interrupt(project: Path, *names: str) -> None:
    """Make a finished update look like one that was killed before it wrote these files."""
    journal = project / ".git" / "core-update" / "journal.json"
    details = json.loads(journal.read_text())
    journal.write_text(json.dumps(details | {"is_done": False}))
    for file in details["files"]:
        if file["path"] in (*names, details["answers_file"]):
            before = journal.parent / "before" / str(file["number"])
            if before.exists():
                shutil.copy(before, project / file["path"])
            else:
                (project / file["path"]).unlink()


def test_a_committed_update_is_reverted_by_git(template: Path, project: Path) -> None:
    """The service may depend on it by now."""
    release(template, FILES)
    update(project)
    commit_all(project, "v0.2.0")
    commit = git(project, "log", "-1", "--format=%h").strip()
    write(project / "app" / "main.py", MINE)
    before = look(project)
    text = f"error: the update to v0.2.0 is committed. To take it back, run `git revert {commit}`."
    assert update(project, 2, UNDO) == f"{text}\n"
    assert look(project) == before


def test_an_update_that_is_done_is_not_repeated(template: Path, project: Path) -> None:
    """`git merge --continue` is a habit."""
    write(project / "core" / "one.py", MINE)
    commit_all(project, "mine")
    release(template, FILES)
    update(project, EXIT_CONFLICTS)
    conflict = "these files have conflicts: core/one.py. Resolve them and commit, or take"
    assert conflict in update(project, 2)
    write(project / "core" / "one.py", MINE + NEW)
    commit_all(project, "resolved")
    assert "error: the last update is complete." in update(project, 2, CONTINUE)
    assert git(project, "status", "--porcelain") == ""


@pytest.mark.parametrize("end", [UNDO, CONTINUE], ids=["undo", "continue"])
def test_a_service_that_moved_on_stays(template: Path, project: Path, end: list[str]) -> None:
    """A colleague has updated to a newer version, and `git switch` brought it here."""
    release(template, FILES)
    git(project, "switch", "--quiet", "--create", "theirs")
    (template / "template" / "core" / "new.py").unlink()
    release(template, {"core/one.py": MINE}, "v0.3.0")
    update(project, 0, [*JUST, "--to", "v0.3.0"])
    commit_all(project, "v0.3.0")
    git(project, "switch", "--quiet", "main")
    update(project, 0, [*JUST, "--to", "v0.2.0"])
    interrupt(project, "core/two.py")
    assert "was interrupted" in update(project, 2)
    git(project, "reset", "--quiet", "--hard")
    git(project, "clean", "--quiet", "--force", "-d")
    git(project, "switch", "--quiet", "theirs")
    before = look(project)
    assert "this service is at v0.3.0 now" in update(project, 2, end)
    assert look(project) == before
    assert update(project) == "Nothing to update from v0.3.0 to v0.3.0.\n"


def test_continuing_names_the_update_of_a_file_that_stays(template: Path, project: Path) -> None:
    release(template, FILES)
    update(project)
    interrupt(project, "core/two.py")
    write(project / "core" / "two.py", MINE)
    output = update(project, EXIT_CONFLICTS, CONTINUE)
    text = "core/two.py: you changed it since the update began, so it stays. The update has "
    copy = output.partition(text)[2].splitlines()[0].rstrip(".")
    assert (project / copy).read_bytes() == NEW
    assert (project / "core" / "two.py").read_bytes() == MINE


@pytest.mark.parametrize("end", [UNDO, CONTINUE], ids=["undo", "continue"])
def test_the_lock_may_change_meanwhile(template: Path, project: Path, end: list[str]) -> None:
    """`uv run` changes it before `just` starts."""
    write(project / "uv.lock", b"before\n")
    commit_all(project, "lock")
    release(template, FILES)
    journal = project / ".git" / "core-update"
    run(sys.executable, *JUST, cwd=project, check=False)  # `uv lock` cannot read this lock
    assert journal.exists()
    interrupt(project, "core/two.py")
    write(project / "uv.lock", b"after\n")
    output = update(project, 0, end)
    assert output.endswith("Next, run `uv lock`.\n")
    assert (project / "uv.lock").read_bytes() == b"after\n"


def test_undoing_keeps_what_somebody_staged(template: Path, project: Path) -> None:
    release(template, FILES)
    update(project)
    write(project / "core" / "two.py", MINE)
    git(project, "add", "core/two.py")
    write(project / "core" / "two.py", NEW)
    update(project, 0, UNDO)
    assert git(project, "show", ":core/two.py") == MINE.decode()


@pytest.mark.parametrize("place", ["a folder", "a link"])
def test_undoing_writes_nothing_into_another_place(
    template: Path, project: Path, tmp_path: Path, place: str
) -> None:
    if place == "a folder":
        (template / "template" / "core" / "one.py").unlink()
        release(template, {"core/one.py/inside.py": NEW})
        update(project)
        write(project / "core" / "one.py" / "mine.py", MINE)
        path, stays = project / "core" / "one.py" / "mine.py", "core/one.py"
    else:
        stays = "core/sub/three.py"
        release(template, {stays: NEW})
        update(project)
        shutil.move(project / "core" / "sub", tmp_path / "elsewhere")
        (project / "core" / "sub").symlink_to(tmp_path / "elsewhere")
        path = tmp_path / "elsewhere" / "three.py"
    content = path.read_bytes()
    output = update(project, EXIT_CONFLICTS, UNDO)
    assert f"{stays}: you changed it since the update, so it stays." in output
    assert path.read_bytes() == content


@pytest.mark.parametrize("content", ["", "{", "\0"])
def test_a_damaged_journal_is_named(template: Path, project: Path, content: str) -> None:
    release(template, FILES)
    update(project)
    commit_all(project, "v0.2.0")
    (project / ".git" / "core-update" / "journal.json").write_text(content)
    for command in (JUST, UNDO, CONTINUE):
        output = update(project, 2, command)
        assert "journal.json cannot be read" in output
        assert output.count("\n") == 1
    shutil.rmtree(project / ".git" / "core-update")
    assert update(project) == "Nothing to update from v0.2.0 to v0.2.0.\n"


@pytest.mark.parametrize("fault", ["an edit", "a commit"])
def test_an_edit_while_git_merges_is_noticed(
    template: Path, project: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fault: str
) -> None:
    """Git is wrapped by a program that makes the edit at a late step of the merge."""
    release(template, FILES)
    real = shutil.which("git")
    edit = f"echo mine >> '{project}/core/two.py'"
    if fault == "a commit":
        edit += f" && '{real}' -C '{project}' -c user.name=T -c user.email=t@e commit -qam mine"
    write(
        tmp_path / "bin" / "git",
        f"""#!/bin/sh
case "$*" in *check-ignore*) {edit} ;; esac
exec '{real}' "$@"
""".encode(),
    )
    (tmp_path / "bin" / "git").chmod(0o755)
    with monkeypatch.context() as patched:
        patched.setenv("PATH", f"{tmp_path / 'bin'}{os.pathsep}{os.environ['PATH']}")
        output = update(project, 2)
    expected = {"an edit": "changes are not committed", "a commit": "somebody has committed"}
    assert expected[fault] in output
    assert (project / "core" / "two.py").read_bytes().endswith(MINE)
    assert not (project / "core" / "new.py").exists()
    assert not list((project / ".git").glob("core-update*/"))


@pytest.mark.parametrize(
    "command",
    [JUST, UNDO, *([*COMMAND, option] for option in ("--check", "--drift", "--show-app"))],
    ids=lambda command: command[-1],
)
def test_a_git_hook_cannot_run_it(
    template: Path, project: Path, monkeypatch: pytest.MonkeyPatch, command: list[str]
) -> None:
    """Git gives a hook the index of the commit, which the updater would fill with its files."""
    release(template, FILES)
    update(project)
    git(project, "reset", "--quiet", "--hard")
    git(project, "clean", "--quiet", "--force", "-d")
    index = project / ".git" / "index"
    before = index.read_bytes(), look(project)
    monkeypatch.setenv("GIT_INDEX_FILE", str(index))
    assert "Unset GIT_INDEX_FILE" in update(project, 2, command)
    assert (index.read_bytes(), look(project)) == before


def test_a_new_file_of_a_new_version_comes_in_spite_of_an_old_deletion(
    template: Path, project: Path
) -> None:
    """Other files of the new version may need it."""
    write(project / "core" / "health.py", MINE)
    commit_all(project, "my own file")
    (project / "core" / "health.py").unlink()
    commit_all(project, "is gone")
    release(template, {"core/health.py": NEW, **FILES})
    update(project)
    assert (project / "core" / "health.py").read_bytes() == NEW


def test_the_updater_is_replaced_first(template: Path, project: Path) -> None:
    """An update that is interrupted can then be ended by the new updater."""
    code = (template / "template" / "core" / "update" / "git.py").read_bytes()
    release(template, {**FILES, "core/a.py": NEW, "core/update/git.py": code + b"# new\n"})
    update(project)
    details = json.loads((project / ".git" / "core-update" / "journal.json").read_text())
    names = [file["path"] for file in details["files"]]
    new = ["core/update/git.py", "core/a.py", "core/new.py", "core/one.py", "core/two.py"]
    assert names == [*new, ".copier-answers.yml"]


@pytest.mark.parametrize("commit", ["1234567", "true", "[a]", "2026-01-01", "HEAD", "''"])
def test_a_commit_that_is_none_is_ignored(template: Path, project: Path, commit: str) -> None:
    answers = project / ".copier-answers.yml"
    lines = answers.read_text().splitlines()
    kept = [line for line in lines if not line.startswith("_commit_hash")]
    answers.write_text("\n".join([*kept, f"_commit_hash: {commit}", ""]))
    commit_all(project, "edited")
    release(template, FILES)
    assert "Updated from v0.1.0 to v0.2.0." in update(project)


def test_plain_copier_keeps_and_names_answers(template: Path, tmp_path: Path) -> None:
    answers = {"project_name": "Rocket 🚀", "description": "Grüße aus 東京 🐍"}
    data = [f"--data={name}={value}" for name, value in answers.items()]
    folder = tmp_path / "service"
    copier = [sys.executable, "-m", "copier", "copy", "--defaults", "--quiet"]
    run(*copier, "--vcs-ref=v0.1.0", *data, str(template), str(folder), cwd=tmp_path)
    git(folder, "init", "--quiet", "--initial-branch=main")
    commit_all(folder, "rendered")
    text = (template / "copier.yml").read_text()
    short = text.replace("description | length > 200", "description | length > 10")
    short = short.replace("A service with background jobs.", "Short.")
    (template / "copier.yml").write_text(short)
    release(template, FILES)
    output = update(folder, 0, PLAIN)
    assert "description: your answer was 'Grüße aus 東京 🐍', and is 'Short.'." in output
    assert "Updated from v0.1.0 to v0.2.0. Next, run `uv lock`." in output
    found = (folder / ".copier-answers.yml").read_text()
    assert "Rocket" in found
    assert "My Service" not in found


def test_a_patch_has_binary_files_and_any_encoding(template: Path, project: Path) -> None:
    latin = "# Grüße\n".encode("latin-1")
    write(project / "core" / "one.py", latin)
    write(project / "core" / "own.bin", bytes(range(256)))
    commit_all(project, "mine")
    command = [sys.executable, *COMMAND, "--drift"]
    with (project.parent / "patch").open("wb") as patch:
        subprocess.run(command, cwd=project, stdout=patch, check=True)
    other = render(template, project.parent / "other")
    git(other, "apply", str(project.parent / "patch"))
    assert (other / "core" / "one.py").read_bytes() == latin
    assert (other / "core" / "own.bin").read_bytes() == bytes(range(256))


def test_a_dry_run_lists_a_renamed_file_once(template: Path, project: Path) -> None:
    write(project / "core" / "one.py", edited(project / "core" / "one.py"))
    write(project / "uv.lock", b"version = 1\n")
    commit_all(project, "mine")
    git(template, "mv", "template/core/one.py", "template/core/first.py")
    release(template, {"core/two.py": NEW})
    output = update(project, 5, [*COMMAND, "--check"])
    merged = output.partition("Merged with your changes:\n")[2].partition("\n\n")[0]
    assert merged == "  core/first.py"
    assert "core/one.py\n" not in output
    assert "uv.lock" not in output


@pytest.mark.parametrize("name", ["[a].yml", "-x.yml"])
def test_an_unusual_name_of_the_answers_file_is_refused(project: Path, name: str) -> None:
    (project / ".copier-answers.yml").rename(project / name)
    commit_all(project, "renamed")
    assert update(project, 2) == (
        f"error: {name}: rename the file, because patterns and options look like this.\n"
    )


def test_a_link_in_place_of_core_is_refused(project: Path, tmp_path: Path) -> None:
    shutil.move(project / "core", tmp_path / "elsewhere")
    (project / "core").symlink_to(tmp_path / "elsewhere")
    commit_all(project, "a link")
    assert "error: core is a link." in update(project, 2)

"""The template's place: relative, moved, dirty, without git. Each mistake gets one line."""

import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from conftest import COPIER, clean_environment, commit_all, copy, git, run
from test_update_corners import JUST, project, release, template, update

__all__ = ["project", "template"]

ANSWERS = ".copier-answers.yml"


def read_source(service: Path) -> str:
    found = re.search("^_src_path: (.*)$", (service / ANSWERS).read_text(), re.MULTILINE)
    assert found
    return found[1]


def set_answer(service: Path, name: str, value: str) -> None:
    text = (service / ANSWERS).read_text()
    changed = re.sub(f"^{name}: .*$", lambda _: f"{name}: {value}", text, flags=re.MULTILINE)
    (service / ANSWERS).write_text(changed)
    commit_all(service, name)


def fail(service: Path, *options: str, **variables: str) -> str:
    """Run a failing update, check that it prints one line and changes nothing, and return that."""
    environment = clean_environment() | variables
    done = subprocess.run(
        [sys.executable, *JUST, *options],
        cwd=service,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2, done.stdout + done.stderr
    assert re.fullmatch("error: .*\n", done.stderr), done.stderr
    assert git(service, "status", "--porcelain") == ""
    return done.stderr


@pytest.mark.parametrize("typed", ["template", "./template/", "../{folder}/template"])
def test_a_relative_path_is_stored_as_an_absolute_one(
    template: Path, tmp_path: Path, typed: str
) -> None:
    source = typed.format(folder=tmp_path.name)
    run(COPIER, "copy", "--quiet", "--defaults", source, "service", cwd=tmp_path)
    service = tmp_path / "service"
    assert read_source(service) == str(template)
    git(service, "init", "--quiet")
    commit_all(service, "rendered")
    release(template, {"core/new.py": b"new\n"})

    update(service)

    assert (service / "core" / "new.py").exists()
    assert read_source(service) == str(template)


def test_a_path_is_relative_to_the_place_of_the_copy(template: Path, tmp_path: Path) -> None:
    """An absolute path stays as it was typed, also through a link."""
    (tmp_path / "link").symlink_to(template)
    service = copy(tmp_path / "link", tmp_path / "service")
    assert read_source(service) == str(tmp_path / "link")


@pytest.mark.parametrize("command", [JUST, ["-m", "copier", "update", "--trust", "--defaults"]])
def test_a_relative_path_that_the_user_wrote_stays(
    template: Path, project: Path, command: list[str]
) -> None:
    set_answer(project, "_src_path", "../template")
    release(template, {"core/new.py": b"new\n"})
    update(project, command=command)
    assert (project / "core" / "new.py").exists()
    assert read_source(project) == "../template"


def test_a_relative_path_is_named_if_it_leads_nowhere(project: Path) -> None:
    set_answer(project, "_src_path", "template")
    assert "no template was found at template. The path is relative" in fail(project)


def lose_git(template: Path) -> None:
    shutil.rmtree(template / ".git")


def lose_git_inside_a_repository(template: Path) -> None:
    shutil.rmtree(template / ".git")
    git(template.parent, "init", "--quiet")


@pytest.mark.parametrize("lose", [lose_git, lose_git_inside_a_repository])
@pytest.mark.parametrize("options", [[], ["--check"]])
def test_a_template_without_git(
    template: Path, project: Path, lose: Callable[[Path], None], options: list[str]
) -> None:
    lose(template)
    error = fail(project, *options)
    assert f"{template} is not a git repository" in error
    assert f"set _src_path in {ANSWERS} to the clone" in error


def test_a_repository_of_another_user(template: Path, project: Path) -> None:
    """Git itself offers the variable for such tests."""
    assume = {"GIT_TEST_ASSUME_DIFFERENT_OWNER": "1"}
    command = "git config --global --add safe.directory"
    assert f"{command} '{template}'" in fail(project, **assume)
    trust = {
        "GIT_CONFIG_COUNT": "1",
        "GIT_CONFIG_KEY_0": "safe.directory",
        "GIT_CONFIG_VALUE_0": str(template),
    }
    assert f"{command} '{project}'" in fail(project, **assume, **trust)


def test_without_git(project: Path, tmp_path: Path) -> None:
    assert "git is not on PATH. Install git" in fail(project, PATH=str(tmp_path))


@pytest.mark.parametrize("options", [[], ["--check"]])
def test_a_service_from_a_dirty_template(
    template: Path, tmp_path: Path, options: list[str]
) -> None:
    """Copier commits the changes to its own clone, so the version exists in no other one."""
    (template / "template" / "core" / "one.py").write_text("not committed\n")
    service = copy(template, tmp_path / "service", "--vcs-ref=HEAD")
    git(template, "checkout", ".")
    release(template, {"core/new.py": b"new\n"})

    error = fail(service, *options)

    assert "the template has no version v0.1.0-1-g" in error
    assert f"If {ANSWERS} names this version, set _commit to v0.1.0, the version before" in error
    set_answer(service, "_commit", "v0.1.0")
    update(service)
    assert (service / "core" / "new.py").exists()
    assert (service / "core" / "one.py").read_text() == "not committed\n"


def test_an_update_to_a_dirty_template_is_refused(template: Path, project: Path) -> None:
    (template / "template" / "core" / "one.py").write_text("not committed\n")
    assert "has changes that are not committed. Commit them there" in fail(project, "--to=HEAD")
    update(project)  # to the newest tag, which has none of the changes
    assert "not committed" not in (project / "core" / "one.py").read_text()


@pytest.mark.parametrize("size", ["16k", "200k"])
def test_a_full_temporary_folder(project: Path, tmp_path: Path, size: str) -> None:
    """A small file system in memory is full. Only the update sees it."""
    folder = tmp_path / "small"
    folder.mkdir()
    mount = f'mount -t tmpfs -o size={size} none "$0"'
    names = ["unshare", "--map-root-user", "--mount", "sh", "-c"]
    if subprocess.run([*names, mount, str(folder)], capture_output=True, check=False).returncode:
        pytest.skip("this system lets no user mount a file system")
    update_command = f'{mount} && TMPDIR="$0" exec "$@"'
    command = [*names, update_command, str(folder), sys.executable, *JUST]

    done = run(*command, cwd=project, check=False)

    assert done.returncode == 2, done.stdout + done.stderr
    assert re.fullmatch("error: .*No space left on device.*\n", done.stderr), done.stderr
    assert f"Make room in {folder}, or set TMPDIR" in done.stderr
    assert git(project, "status", "--porcelain") == ""


def test_half_a_character_in_the_answers_file(project: Path) -> None:
    set_answer(project, "description", r'"half \ud83d of it"')
    assert f"{ANSWERS}: the answer to description is not valid text" in fail(project)


def test_broken_bytes_in_the_answers_file(project: Path) -> None:
    path = project / ANSWERS
    path.write_bytes(path.read_bytes().replace(b"A service", b"A \xff service"))
    commit_all(project, "broken")
    assert f"{ANSWERS} cannot be read. `git log -p" in fail(project)


def test_broken_bytes_on_the_command_line(template: Path, project: Path, tmp_path: Path) -> None:
    broken = "description=a \udcff b"
    assert "Use one line of text" in fail(project, "--to=current", "--data", broken)
    command = ["copy", "--defaults", "--data", broken, str(template), "other"]
    done = run(COPIER, *command, cwd=tmp_path, check=False)
    assert done.returncode
    assert done.stderr.splitlines()[-1].endswith(
        "Use one line of text, without control characters."
    )
    assert not (tmp_path / "other").exists()

"""The ownership rule: an update changes core/ and the answers file only, and never drops an edit without a word."""

import hashlib
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import update as updates
import yaml
from conftest import COPIER, ROOT, UV, clean_environment, commit_all, copy, git, run, snapshot

RELEASES = git(ROOT, "tag", "--list", "v*").split()


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
    config = rendered / "core" / "config.py"
    config.write_text(config.read_text().replace("    host: str", "    brand_new: int = 1\n    host: str"))
    changelog = clone / "CHANGELOG.md"
    told = "## [0.2.0] - 2027-01-01\n\n### By hand\n\n- Feed the cat."
    changelog.write_text(changelog.read_text().replace("## ", f"{told}\n\n## ", 1))
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
    """Plain `copier update`."""
    command = [COPIER, "update", "--trust", "--defaults", *options]
    done = run(*command, cwd=project, check=check)
    assert check or done.returncode
    return done.stdout + done.stderr


def just_update(project: Path, *options: str, status: int = 0) -> str:
    """What `just update` runs, with the Copier that is here already."""
    done = run(sys.executable, "core/dev/update.py", "--defaults", *options, cwd=project, check=False)
    assert done.returncode == status, done.stdout + done.stderr
    return done.stdout + done.stderr


def refuses_to_commit(project: Path) -> None:
    """Whether git refuses a plain commit for what is not merged."""
    git(project, "add", ".copier-answers.yml")
    done = run("git", "commit", "-m", "too early", cwd=project, check=False)
    assert done.returncode
    assert "unmerged files" in done.stderr


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


def test_edits_follow_a_file_that_was_renamed_and_stay_where_it_was_removed(
    newer: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever the user has told git about merging."""
    settings = tmp_path / "gitconfig"
    settings.write_text("[merge]\n ff = only\n renames = false\n[core]\n autocrlf = input\n[diff]\n noprefix = true\n")
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", str(settings))
    git(newer, "mv", "template/core/tasks/upkeep.py", "template/core/tasks/keeping.py")
    git(newer, "rm", "--quiet", "template/core/tasks/metrics.py")
    commit_all(newer, "v0.3.0")
    git(newer, "tag", "v0.3.0")
    project = copy(newer, tmp_path / "service", "--vcs-ref=v0.1.0")
    core = project / "core"
    for name in ("upkeep.py", "metrics.py"):
        (core / "tasks" / name).write_text("# mine\n" + (core / "tasks" / name).read_text())
    (core / "tasks" / "watchdog.py").unlink()
    (core / "logo.bin").write_bytes(b"\0mine")
    (core / "run.sh").symlink_to("nowhere")
    commit_all(project, "mine")

    output = just_update(project, status=updates.NEEDS_A_PERSON)

    assert (core / "tasks" / "keeping.py").read_text().startswith("# mine\n")
    assert not (core / "tasks" / "upkeep.py").exists()
    assert "core/tasks/metrics.py: you have edited it, and the update removed it" in output
    assert (core / "tasks" / "metrics.py").read_text().startswith("# mine\n")
    assert "core/tasks/watchdog.py: you have deleted it, and the update changed it; it stays deleted" in output
    assert not (core / "tasks" / "watchdog.py").exists()
    assert (core / "logo.bin").read_bytes() == b"\0mine"
    assert (core / "run.sh").readlink() == Path("nowhere")
    assert "UD core/tasks/metrics.py" in git(project, "status", "--porcelain")
    refuses_to_commit(project)


def test_what_git_ignores_in_core_stays(newer: Path, tmp_path: Path) -> None:
    """Also where the new version has a file of that name, or one in a folder of that name."""
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

    output = just_update(project, status=updates.NEEDS_A_PERSON)

    assert "core/new.py: core/new.py is not in git as it is, and stays" in output
    assert "core/cache/file.py: core/cache is not in git as it is, and stays" in output
    assert "core/logs: core/logs is not in git as it is, and stays" in output
    assert {path.read_text() for path in (core / "new.py", core / "cache", core / "logs" / "a.log")} == {"mine\n"}
    refuses_to_commit(project)
    assert git(project, "show", ":3:./core/cache/file.py") == '"""New."""\n'
    undo = re.findall("^To undo the update instead, in this folder: (.*)$", output, re.MULTILINE)[0]
    run("bash", "-c", undo, cwd=project)
    assert git(project, "status", "--porcelain") == ""
    assert (core / "new.py").read_text() == "mine\n"


def test_what_is_new_is_told(newer: Path, tmp_path: Path) -> None:
    project = copy(newer, tmp_path / "service", "--vcs-ref=v0.1.0")
    assert just_update(project, "--check", status=5) == "0.2.0 is there, this service is from 0.1.0: just update\n"
    lock = (project / "uv.lock").read_text()

    output = just_update(project)

    assert "What is new:\n\n## [0.2.0] - 2027-01-01\n\n### By hand\n\n- Feed the cat.\n\nNew settings" in output
    assert "New settings, which core/config.py describes: BRAND_NEW\n" in output
    assert (project / "uv.lock").read_text() == lock  # no dependency has changed
    commit_all(project, "updated")
    assert just_update(project, "--check") == "0.2.0 is the newest version\n"
    assert just_update(project) == "There is nothing new, from v0.2.0 to v0.2.0.\n"
    assert git(project, "status", "--porcelain") == ""


def test_the_lock_follows(newer: Path, tmp_path: Path) -> None:
    pyproject = newer / "template" / "core" / "pyproject.toml.jinja"
    pyproject.write_text(pyproject.read_text().replace("dependencies = [", 'dependencies = [\n    "iniconfig",', 1))
    commit_all(newer, "v0.3.0")
    git(newer, "tag", "v0.3.0")
    project = copy(newer, tmp_path / "service", "--vcs-ref=v0.1.0")
    assert "uv.lock follows the dependencies of core/" in just_update(project)
    run(UV, "lock", "--check", cwd=project)


def test_through_several_versions(newer: Path, tmp_path: Path) -> None:
    """Step by step or at once, with an edit in a file that each of them changes."""
    for path in (newer / "template" / "core").rglob("*.py"):
        path.write_text("# of v0.3.0\n" + path.read_text())
    commit_all(newer, "v0.3.0")
    git(newer, "tag", "v0.3.0")
    found = []
    for name, steps in (("steps", ["v0.2.0", "v0.3.0"]), ("once", ["v0.3.0"])):
        project = copy(newer, tmp_path / name, "--vcs-ref=v0.1.0")
        config = project / "core" / "config.py"
        config.write_text(config.read_text().replace("MongoUrl =", "# mine\nMongoUrl =", 1))
        users_edits(project)
        for version in steps:
            just_update(project, "--to", version)
            commit_all(project, version)
        assert "# mine\nMongoUrl" in config.read_text()
        found.append({name: each for name, each in hashes(project).items() if not name.startswith(".")})
    assert found[0] == found[1]


@pytest.mark.skipif(not RELEASES, reason="nothing is released yet")
@pytest.mark.parametrize("release", RELEASES)
def test_from_every_release_to_what_is_here(tmp_path: Path, release: str) -> None:
    """The app of an old version, with edits beside it and in core, works with the new core."""
    template = tmp_path / "template"
    run("git", "clone", "--quiet", str(ROOT), str(template), cwd=tmp_path)
    git(template, "rm", "--quiet", "-r", ".")
    snapshot(template, "v1000.0.0")
    project = copy(template, tmp_path / "service", f"--vcs-ref={release}")
    (project / "core" / "process.py").write_text("# mine\n" + (project / "core" / "process.py").read_text())
    (project / "tests" / "test_mine.py").write_text("def test_mine() -> None: ...\n")
    commit_all(project, "mine")

    just_update(project)

    assert git(project, "diff", "--name-only", "HEAD", "--", ".", ":!core", ":!uv.lock") == ".copier-answers.yml\n"
    assert (project / "core" / "process.py").read_text().startswith("# mine\n")
    run(UV, "sync", "--quiet", "--locked", cwd=project)
    assert " passed" in run(UV, "run", "just", "test", "-q", "tests", cwd=project).stdout


@pytest.mark.parametrize("place", ["alone", "in a folder", "another answers file", "into a repository"])
def test_wherever_a_project_lies(newer: Path, tmp_path: Path, place: str) -> None:
    """In a folder of a bigger repository, with answers in a file of another name, copied to what is there already."""
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
    users_edits(project)
    commit_all(top, "all")
    before = hashes(top)

    just_update(project)

    after = hashes(top)
    own = f"{project.relative_to(top)}/".removeprefix("./")
    changed = {name.removeprefix(own) for name in before.keys() | after.keys() if before.get(name) != after.get(name)}
    answers = ".groundwork.yml" if options else ".copier-answers.yml"
    assert {name for name in changed if not name.startswith("core/")} == {answers}
    assert "core/new.py" in changed
    if place == "into a repository":
        assert after["README.md"] == before["README.md"]


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (lambda project: (project / "README.md").write_text("edited"), "commit your changes first"),
        (lambda project: shutil.rmtree(project / ".git"), "git init && git add --all && git commit"),
        (lambda project: (project / ".copier-answers.yml").unlink(), ".copier-answers.yml is gone; `git log"),
        (lambda project: spoil_answers(project, "]["), ".copier-answers.yml cannot be read, `git log -p"),
        (lambda project: spoil_answers(project, "a: 1"), ".copier-answers.yml does not say _src_path and _commit"),
        (lambda project: move_template(project, "/nowhere/at/all"), "there is no template at /nowhere/at/all; change"),
        (lambda project: move_template(project, "https://127.0.0.1:1/x.git"), "change _src_path in .copier-answers"),
        (lambda project: spoil_answers(project, "enable_job_queue: perhaps", more=True), "enable_job_queue"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_told_in_one_line(newer: Path, tmp_path: Path, spoil, said) -> None:  # type: ignore[no-untyped-def]
    project = copy(newer, tmp_path / "service", "--vcs-ref=v0.1.0")
    spoil(project)
    before = hashes(project)

    output = just_update(project, status=2)

    assert output.startswith("error: ")
    assert said in output
    assert output.count("\n") == 1
    assert hashes(project) == before


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--to", "v9"], "v9"),
        (["--to", "v0.1.0"], "from v0.2.0 to v0.1.0 would be a step back"),
        (["--data", "enable_queue=true"], "the template asks for no enable_queue"),
        (["--data", "enable_job_queue=perhaps"], "enable_job_queue"),
    ],
)
def test_what_cannot_be_chosen_is_told(newer: Path, tmp_path: Path, options: list[str], said: str) -> None:
    project = copy(newer, tmp_path / "service", "--vcs-ref=v0.2.0")
    before = hashes(project)
    output = just_update(project, *options, status=2)
    assert re.match(f"error: .*{re.escape(said)}.*\n$", output)
    assert hashes(project) == before


def test_the_weekly_workflow(newer: Path, tmp_path: Path) -> None:
    """Its script, in a clone of a repository; GitHub's own command cannot be had here, so that a stand-in notes it."""
    project = copy(newer, tmp_path / "service", "--vcs-ref=v0.1.0")
    steps = yaml.safe_load((project / ".github" / "workflows" / "update.yml").read_text())["jobs"]["update"]["steps"]
    remote, clone, bin_folder = tmp_path / "remote.git", tmp_path / "clone", tmp_path / "bin"
    run("git", "clone", "--quiet", "--bare", str(project), str(remote), cwd=tmp_path)
    run("git", "clone", "--quiet", str(remote), str(clone), cwd=tmp_path)
    bin_folder.mkdir()
    (bin_folder / "gh").write_text('#!/bin/sh\nprintf "%s\\n" "$@" > "$RUNNER_TEMP/gh.txt"\n')
    (bin_folder / "gh").chmod(0o755)
    path = f"{bin_folder}:{ROOT / '.cache' / 'uv' / 'bin'}:{os.environ['PATH']}"
    environment = {**clean_environment(), "PATH": path, "RUNNER_TEMP": str(tmp_path)}
    script = ["bash", "-e", "-c", steps[-1]["run"]]
    for times in (1, 2):
        done = subprocess.run(script, cwd=clone, env=environment, capture_output=True, text=True, timeout=120)
        assert done.returncode == 0, done.stdout + done.stderr
        if times == 1:
            assert "Feed the cat." in (tmp_path / "update.txt").read_text()
            assert "Update from the template" in (tmp_path / "gh.txt").read_text()
            (tmp_path / "gh.txt").unlink()
            git(clone, "switch", "--quiet", "main")
    assert not (tmp_path / "gh.txt").exists()  # the pull request is there the second time
    (branch,) = [line for line in git(remote, "branch", "--list", "update-*").split() if line != "*"]
    assert "core/new.py" in git(remote, "ls-tree", "-r", "--name-only", branch)


def spoil_answers(project: Path, text: str, more: bool = False) -> None:
    answers = project / ".copier-answers.yml"
    kept = "".join(line for line in answers.read_text().splitlines(keepends=True) if line[0] == "_") if more else ""
    answers.write_text(f"{kept}{text}\n")
    commit_all(project, "spoiled")


def move_template(project: Path, place: str) -> None:
    answers = project / ".copier-answers.yml"
    answers.write_text(re.sub("_src_path: .*", f"_src_path: {place}", answers.read_text()))
    commit_all(project, "moved")


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

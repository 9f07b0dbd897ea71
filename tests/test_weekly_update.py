"""The weekly workflow of a service proposes each newer version once, and never goes quiet."""

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from actions import GitHub, Job
from conftest import commit_all, copy, git, run

from core.update import weekly

JUSTFILE = """
# stands for the checks of CI, whose tests run elsewhere
ci:
    @test ! -e core/broken.py
    @test ! -e app/broken.py
"""


@pytest.fixture
def newer(small_template: Path, tmp_path: Path) -> Path:
    """Return a clone of the small template. Its v0.2.0 changes one file and adds one."""
    clone = tmp_path / "template"
    run("git", "clone", "--quiet", str(small_template), str(clone), cwd=tmp_path)
    release(clone, "v0.2.0")
    return clone


def release(template: Path, version: str, news: str = "Feed the cat.") -> None:
    """Release a version that changes the first line of `core/errors.py`."""
    core = template / "template" / "core"
    errors = core / "errors.py"
    _, rest = errors.read_text().split("\n", 1)
    errors.write_text(f'"""The errors of {version}."""\n{rest}')
    (core / f"new_{version.replace('.', '_')}.py").write_text('"""New."""\n')
    changelog = template / "CHANGELOG.md"
    section = f"## [{version}] - 2027-01-01\n\n### By hand\n\n- {news}\n\n## "
    changelog.write_text(changelog.read_text().replace("## ", section, 1))
    commit_all(template, version)
    git(template, "tag", version)


@pytest.fixture
def service(newer: Path, tmp_path: Path) -> Path:
    """A service of v0.1.0. Tests may change it before they push it."""
    project = copy(newer, tmp_path / "service", "--vcs-ref=v0.1.0")
    with (project / "Justfile").open("a") as justfile:
        justfile.write(JUSTFILE)
    commit_all(project, "my own checks")
    return project


Push = Callable[[Path], GitHub]


@pytest.fixture(scope="session")
def environment(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The packages of all services here. Each service has the same lock."""
    return tmp_path_factory.mktemp("environment") / "venv"


@pytest.fixture
def push(environment: Path, tmp_path: Path) -> Push:
    """Return a function that pushes a service to GitHub."""
    folder = tmp_path / "github"
    folder.mkdir()
    return lambda service: GitHub(folder, service, environment)


@pytest.fixture
def github(service: Path, push: Push) -> GitHub:
    return push(service)


def update_weekly(github: GitHub, failing: str = "") -> dict[str, Job]:
    """Run the workflow, and check that it is green, or that one job fails."""
    jobs = github.run_workflow("update.yml")
    failed = {name: job.log for name, job in jobs.items() if job.result == "failure"}
    assert set(failed) == ({failing} if failing else set()), failed
    return jobs


def pull_request(state: str, is_of_fork: bool = False) -> dict[str, object]:
    """Return a pull request for v0.2.0, as GitHub lists it."""
    return {
        "number": 1,
        "headRefName": "update-0.2.0",
        "isCrossRepository": is_of_fork,
        "state": state,
    }


def skipped(jobs: dict[str, Job]) -> set[str]:
    return {name for name, job in jobs.items() if job.result == "skipped"}


def test_a_newer_version_is_proposed_once(github: GitHub) -> None:
    assert skipped(update_weekly(github)) == {"report"}
    (pull,) = github.pulls
    assert pull["headRefName"] == "update-0.2.0"
    assert pull["base"] == "main"
    assert pull["title"] == "Update from the template to v0.2.0"
    assert not pull["isDraft"]
    assert "Feed the cat." in pull["body"]
    assert "| before the update | passed |\n| after the update | passed |" in pull["body"]
    assert "(https://github.example/someone/service/actions/runs/1)" in pull["body"]
    assert github.files("update-0.2.0") == [
        ".copier-answers.yml",
        "core/CHANGELOG.md",
        "core/errors.py",
        "core/new_v0_2_0.py",
    ]

    assert skipped(update_weekly(github)) == {"report", "merge", "propose"}
    assert github.pulls == [pull]


def test_no_newer_version(newer: Path, push: Push, tmp_path: Path) -> None:
    github = push(copy(newer, tmp_path / "service"))
    assert skipped(update_weekly(github)) == {"report", "ask", "merge", "propose"}


def test_a_refused_pull_request_is_opened_a_week_later(github: GitHub) -> None:
    """The setting that permits pull requests of workflows is off at first."""
    refusal = "GitHub Actions is not permitted to create or approve pull requests"
    github.write(refusals={"create": refusal})
    assert refusal in update_weekly(github, failing="propose")["propose"].log
    assert github.files("update-0.2.0")
    assert not github.pulls

    github.write(refusals={})
    github.commit("main", "README.md", "mine\n")
    update_weekly(github)
    (pull,) = github.pulls
    assert pull["headRefName"] == "update-0.2.0"
    main = git(github.remote, "rev-parse", "main")
    assert git(github.remote, "rev-parse", "update-0.2.0^") == main


def test_commits_of_a_person_stay(github: GitHub) -> None:
    github.write(refusals={"create": "not permitted"})
    update_weekly(github, failing="propose")
    github.commit("update-0.2.0", "mine.txt", "my work\n")
    github.commit("main", "README.md", "mine\n")
    github.write(refusals={})

    assert "has commits of others" in update_weekly(github)["propose"].log
    assert "mine.txt" in github.files("update-0.2.0")
    assert len(github.pulls) == 1


@pytest.mark.parametrize("state", ["OPEN", "CLOSED", "MERGED"])
def test_a_version_with_a_pull_request_is_not_proposed_again(github: GitHub, state: str) -> None:
    """If it was closed, or merged and then reverted, the owner does not want this version."""
    pull = pull_request(state)
    github.write(pulls=[pull])
    assert skipped(update_weekly(github)) == {"report", "merge", "propose"}
    assert github.pulls == [pull]


def test_the_version_after_a_closed_pull_request_is_proposed(newer: Path, github: GitHub) -> None:
    github.write(pulls=[pull_request("CLOSED")])
    release(newer, "v0.3.0")
    update_weekly(github)
    assert [pull["headRefName"] for pull in github.pulls] == ["update-0.2.0", "update-0.3.0"]


@pytest.mark.parametrize("refusal", ["", "GraphQL: Could not close the pull request."])
def test_a_pull_request_of_an_older_version_is_closed(
    newer: Path, github: GitHub, refusal: str
) -> None:
    update_weekly(github)
    github.write(refusals={"close": refusal})
    release(newer, "v0.3.0")
    log = update_weekly(github)["propose"].log
    older, pull = github.pulls
    assert pull["state"] == "OPEN"
    assert (pull["headRefName"], older["headRefName"]) == ("update-0.3.0", "update-0.2.0")
    if refusal:
        assert older["state"] == "OPEN"
        assert "::warning::Close pull request 1" in log
    else:
        assert older["state"] == "CLOSED"
        assert "update-0.3.0 has this update and a newer one." in older["comment"]
    assert github.files("update-0.2.0")


def test_a_pull_request_of_a_fork_does_not_count(github: GitHub) -> None:
    """Otherwise anybody could stop the updates of a public repository."""
    github.write(pulls=[pull_request("CLOSED", is_of_fork=True)])
    update_weekly(github)
    assert len(github.pulls) == 2


def test_a_conflict_becomes_a_draft(service: Path, push: Push) -> None:
    errors = service / "core" / "errors.py"
    errors.write_text('"""My errors."""\n' + errors.read_text().split("\n", 1)[1])
    commit_all(service, "mine")
    github = push(service)

    update_weekly(github)

    (pull,) = github.pulls
    assert pull["isDraft"]
    assert "- `core/errors.py`\n" in pull["body"]
    assert "core/errors.py: you and the update changed the same lines." in pull["body"]
    assert "git push --force origin HEAD:update-0.2.0" in pull["body"]
    assert "| before the update | passed |\n| after the update | not run |" in pull["body"]
    assert "Feed the cat." in pull["body"]
    text = git(github.remote, "show", "update-0.2.0:core/errors.py")
    assert '"""My errors."""' in text
    assert "<<<<<<<" in text

    assert skipped(update_weekly(github)) == {"report", "merge", "propose"}


def test_a_plan_without_drafts(service: Path, push: Push) -> None:
    (service / "app" / "broken.py").write_text("")
    commit_all(service, "broken")
    github = push(service)
    github.write(refusals={"draft": True})
    update_weekly(github)
    (pull,) = github.pulls
    assert not pull["isDraft"]
    assert "| before the update | failed |\n| after the update | failed |" in pull["body"]


def test_the_answers_file_has_another_name(service: Path, push: Push) -> None:
    """The name depends on `--answers-file` of `copier copy`."""
    (service / ".copier-answers.yml").rename(service / "groundwork.yml")
    commit_all(service, "another name")
    github = push(service)
    update_weekly(github)
    assert len(github.pulls) == 1
    assert "groundwork.yml" in github.files("update-0.2.0")


def test_failing_tests_are_in_the_pull_request(newer: Path, github: GitHub) -> None:
    (newer / "template" / "core" / "broken.py").write_text('"""Breaks the service."""\n')
    release(newer, "v0.3.0")
    update_weekly(github)
    (pull,) = github.pulls
    assert "| before the update | passed |\n| after the update | failed |" in pull["body"]
    assert pull["isDraft"]


def test_an_outdated_lock_is_in_the_pull_request(newer: Path, github: GitHub) -> None:
    project = newer / "template" / "core" / "pyproject.toml.jinja"
    text = project.read_text()
    project.write_text(text.replace('requires-python = ">=3.11"', 'requires-python = ">=3.99"'))
    release(newer, "v0.3.0")
    update_weekly(github)
    (pull,) = github.pulls
    assert "The update is done, but uv.lock is outdated (" in pull["body"]


def test_a_long_changelog_is_cut(newer: Path, github: GitHub) -> None:
    release(newer, "v0.3.0", news="Feed the cat. " * 10_000)
    update_weekly(github)
    (pull,) = github.pulls
    assert pull["body"].startswith("| `just ci` | result |")
    assert pull["body"].endswith("The rest is in `core/CHANGELOG.md` of this branch.")


def test_an_update_that_fails_says_why(newer: Path, github: GitHub) -> None:
    merge = newer / "template" / "core" / "update" / "merge.py"
    merge.write_text('import sys\n\nsys.exit("error: the disk is full")\n')
    release(newer, "v0.3.0")
    jobs = update_weekly(github, failing="merge")
    assert "error: the disk is full" in jobs["merge"].log
    assert not github.pulls


def test_a_new_version_cannot_change_files_of_the_service(newer: Path, github: GitHub) -> None:
    merge = newer / "template" / "core" / "update" / "merge.py"
    merge.write_text('from pathlib import Path\n\nPath("app/evil.py").write_text("")\n')
    release(newer, "v0.3.0")
    jobs = update_weekly(github, failing="propose")
    assert "app/evil.py" in jobs["propose"].log
    assert not github.pulls
    assert git(github.remote, "branch", "--list", "update-*") == ""


def test_a_template_on_another_machine_is_reported_once(
    newer: Path, github: GitHub, tmp_path: Path
) -> None:
    shutil.move(newer, tmp_path / "moved")
    for _ in range(2):
        assert skipped(update_weekly(github)) == {"ask", "merge", "propose"}
        (issue,) = github.read()["issues"]
        assert str(newer) in issue["body"]
        assert "_src_path" in issue["body"]


def test_a_repository_without_issues_stays_green(newer: Path, github: GitHub) -> None:
    shutil.rmtree(newer)
    github.write(refusals={"issues": "the 'someone/service' repository has disabled issues"})
    warning = "::warning::The weekly update cannot reach the template at"
    assert warning in update_weekly(github)["report"].log


@pytest.mark.parametrize(
    ("source", "reason"),
    [
        ("/home/ada/groundwork", "a folder of another machine"),
        ("~/no-such-folder/groundwork", "a folder of another machine"),
        ("../groundwork", "a folder of another machine"),
        ("file:///home/ada/groundwork", "a folder of another machine"),
        (".", "a folder of another machine"),  # `copier copy . ../service`
        ("git@github.com:ada/groundwork.git", "no SSH key"),
        ("ssh://git@github.com/ada/groundwork.git", "no SSH key"),
        ("https://github.com/ada/groundwork.git", None),
        ("gh:ada/groundwork", None),
        ("/", None),
    ],
)
def test_which_templates_cannot_be_reached(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, source: str, reason: str | None
) -> None:
    for name in ("SSH_AUTH_SOCK", "GIT_SSH_COMMAND"):
        monkeypatch.delenv(name, raising=False)
    answers = tmp_path / "answers.yml"
    answers.write_text(f"_commit: v1\n_src_path: {source}\n")
    obstacle = weekly.find_obstacle(answers)
    if reason is None:
        assert obstacle is None
    else:
        assert source in str(obstacle)
        assert reason in str(obstacle)


def test_a_workflow_may_have_a_key(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    answers = tmp_path / "answers.yml"
    answers.write_text("_commit: v1\n_src_path: git@github.com:ada/groundwork.git\n")
    monkeypatch.setenv("SSH_AUTH_SOCK", "/run/agent")
    assert weekly.find_obstacle(answers) is None


def test_an_unknown_command_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert weekly.main(["merge"]) == 2
    assert capsys.readouterr().err == "error: give `look`, or `merge FOLDER BRANCH`.\n"


@pytest.mark.parametrize("text", ["", "- a list", "_src_path: [", "_commit: v1\n"])
def test_other_faults_of_the_answers_file_are_left_to_the_updater(
    tmp_path: Path, text: str
) -> None:
    answers = tmp_path / "answers.yml"
    answers.write_text(text)
    assert weekly.find_obstacle(answers) is None

"""`just ci` of a service runs the tests of `core/` only if `core/` changed since they passed."""

import shutil
import subprocess
from pathlib import Path

import pytest
import yaml
from conftest import UV, clean_environment, run

SKIPPED = "core/ has not changed since its tests passed; `just test-core` runs them anyway.\n"
PASSING = "def test_core() -> None: ...\n"
FAILING = "def test_core() -> None:\n    raise AssertionError\n"


class Service:
    """A copy of a rendered service, with one quick test in place of the tests of `core/`."""

    def __init__(self, path: Path) -> None:
        self.path = path
        shutil.rmtree(path / "core" / "tests")
        (path / "core" / "tests").mkdir()
        self.test = path / "core" / "tests" / "test_core.py"
        self.test.write_text(PASSING)

    def edit(self, name: str) -> None:
        with (self.path / name).open("a") as file:
            file.write("\n")

    def run_last_step_of_ci(self) -> "subprocess.CompletedProcess[str]":
        shown = run(UV, "run", "--quiet", "just", "--dry-run", "ci", cwd=self.path)
        step = shown.stderr.splitlines()[-1]
        assert "core_tests" in step
        return subprocess.run(
            ["sh", "-c", step],
            cwd=self.path,
            env=clean_environment(),
            capture_output=True,
            text=True,
        )


@pytest.fixture
def copied(queue_service: Path, tmp_path: Path) -> Service:
    target = tmp_path / "service"
    shutil.copytree(queue_service, target, ignore=shutil.ignore_patterns(".venv", ".dev"))
    return Service(target)


def test_the_tests_of_core_run_only_if_core_changed(copied: Service) -> None:
    assert "1 passed" in copied.run_last_step_of_ci().stdout
    copied.edit("app/main.py")
    assert copied.run_last_step_of_ci().stdout == SKIPPED
    copied.edit("core/errors.py")
    assert "1 passed" in copied.run_last_step_of_ci().stdout
    assert copied.run_last_step_of_ci().stdout == SKIPPED

    copied.test.write_text(FAILING)
    for _ in range(2):
        done = copied.run_last_step_of_ci()
        assert done.returncode == 1
        assert "1 failed" in done.stdout


def test_test_core_always_runs_and_counts_without_arguments_only(copied: Service) -> None:
    done = run(UV, "run", "--quiet", "just", "test-core", "-q", "-n0", cwd=copied.path)
    assert "1 passed" in done.stdout
    for _ in range(2):
        assert "1 passed" in run(UV, "run", "just", "test-core", cwd=copied.path).stdout
    assert copied.run_last_step_of_ci().stdout == SKIPPED


def test_workflows_skip_and_run_them(queue_service: Path) -> None:
    """CI keeps the file that `just ci` reads; the run of an update ends with these tests."""
    workflows = queue_service / ".github" / "workflows"
    ci = yaml.safe_load((workflows / "ci.yml").read_text())["jobs"]["ci"]["steps"]
    (cache,) = [step["with"] for step in ci if step.get("uses", "").startswith("actions/cache@")]
    assert cache["path"] == ".dev/core-tests-passed"
    assert "hashFiles('core/**', 'uv.lock')" in cache["key"]
    assert ci[-1]["run"] == "uv run just ci"
    update = yaml.safe_load((workflows / "update.yml").read_text())["jobs"]["update"]["steps"]
    assert update[-1]["run"].splitlines()[-1] == "uv run just test-core"

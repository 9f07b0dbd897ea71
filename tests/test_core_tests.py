"""`just ci` of a service runs the tests of `core/` only if `core/` changed since they passed."""

import shutil
import subprocess
from functools import cached_property
from pathlib import Path

import pytest
import yaml
from conftest import UV, clean_environment

SKIPPED = "core/ has not changed since its tests passed; `just test-core` runs them anyway.\n"
PASSING = "def test_core() -> None: ...\n"
FAILING = "def test_core() -> None:\n    raise AssertionError\n"


class Service:
    """A copy of a rendered service, with one quick test in place of the tests of `core/`."""

    def __init__(self, original: Path, path: Path) -> None:
        shutil.copytree(original, path, ignore=shutil.ignore_patterns(".venv", ".dev", "tests"))
        self.path = path
        self.test = path / "core" / "tests" / "test_core.py"
        self.test.parent.mkdir()
        self.test.write_text(PASSING)
        # The quick test needs neither the plugin of core/ nor a second process.
        project = path / "pyproject.toml"
        project.write_text(project.read_text().replace('addopts = "-p core.testing"\n', ""))
        self._environment = {
            **clean_environment(),
            "PYTEST_XDIST_AUTO_NUM_WORKERS": "0",
            "UV_PROJECT_ENVIRONMENT": str(original / ".venv"),
            "UV_NO_SYNC": "1",
        }

    def edit(self, name: str) -> None:
        with (self.path / name).open("a") as file:
            file.write("\n")

    def execute(self, command: str) -> "subprocess.CompletedProcess[str]":
        return subprocess.run(
            ["sh", "-c", command],
            cwd=self.path,
            env=self._environment,
            capture_output=True,
            text=True,
            timeout=600,
        )

    @cached_property
    def last_step_of_ci(self) -> str:
        return self.execute(f"{UV} run just --dry-run ci").stderr.splitlines()[-1]


@pytest.fixture
def copied(queue_service: Path, tmp_path: Path) -> Service:
    return Service(queue_service, tmp_path / "service")


def test_the_tests_of_core_run_only_if_core_changed(copied: Service) -> None:
    ci_step = copied.last_step_of_ci
    assert "core_tests" in ci_step
    test_core = f"{UV} run just test-core"
    assert "1 passed" in copied.execute(f"{test_core} -q").stdout
    assert "1 passed" in copied.execute(ci_step).stdout  # options of pytest do not count
    copied.edit("app/main.py")
    assert copied.execute(ci_step).stdout == SKIPPED

    copied.edit("core/errors.py")
    assert "1 passed" in copied.execute(test_core).stdout
    assert copied.execute(ci_step).stdout == SKIPPED
    assert "1 passed" in copied.execute(test_core).stdout

    copied.test.write_text(FAILING)
    for _ in range(2):
        done = copied.execute(ci_step)
        assert done.returncode == 1
        assert "1 failed" in done.stdout


def test_the_workflows_of_a_service_skip_and_run_them(queue_service: Path) -> None:
    """CI keeps the file that `just ci` reads. The weekly update reads it, and writes nothing."""
    workflows = queue_service / ".github" / "workflows"
    job = yaml.safe_load((workflows / "ci.yml").read_text())["jobs"]["ci"]
    ci = job["steps"]
    (cache,) = [step["with"] for step in ci if step.get("uses", "").startswith("actions/cache@")]
    assert cache["path"] == ".dev/core-tests-passed"
    assert "hashFiles('core/**', 'uv.lock')" in cache["key"]
    assert ci[-1]["run"] == "uv run just ci"
    merge = yaml.safe_load((workflows / "update.yml").read_text())["jobs"]["merge"]
    uses = [step for step in merge["steps"] if step.get("uses", "").startswith("actions/cache")]
    (restored,) = uses
    assert restored["uses"].startswith("actions/cache/restore@")
    assert merge["env"]["UV_PYTHON"] in job["strategy"]["matrix"]["python"]
    assert restored["with"]["path"] == cache["path"]
    assert restored["with"]["key"] == cache["key"].replace("matrix.python", "env.UV_PYTHON")


def test_single_tests_of_core_can_be_run(copied: Service) -> None:
    other = copied.test.parent / "unit" / "test_other.py"
    other.parent.mkdir()
    other.write_text(PASSING.replace("core", "other"))
    test_core = f"{UV} run just test-core -v"
    assert "2 passed" in copied.execute(test_core).stdout
    for name in ("core/tests/unit", "core/tests/unit/test_other.py::test_other"):
        done = copied.execute(f"{test_core} {name}")
        assert "1 passed" in done.stdout, done.stdout
        assert "test_other" in done.stdout

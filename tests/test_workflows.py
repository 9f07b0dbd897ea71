"""The workflows have the least rights, and code of a service or a new version cannot write."""

import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from conftest import ROOT, copy

ZIZMOR = str(Path(sys.executable).parent / "zizmor")
FOLDERS = [ROOT / ".github", ROOT / "template" / ".github"]
FILES = [path for folder in FOLDERS for path in sorted((folder / "workflows").glob("*.yml"))]
READ_ONLY: list[dict[str, str]] = [{}, {"contents": "read"}]
RIGHTS = {
    "report": {"issues": "write"},
    "ask": {"pull-requests": "read"},
    "propose": {"contents": "write", "pull-requests": "write"},
}
"""The rights of the jobs that need more. All of them are jobs of the weekly update."""


def read(path: Path) -> dict[str, Any]:
    content: dict[str, Any] = yaml.safe_load(path.read_text())
    return content


def read_steps(path: Path) -> list[dict[str, Any]]:
    return [step for job in read(path)["jobs"].values() for step in job["steps"]]


def name_file(path: Path) -> str:
    return str(path.relative_to(ROOT))


def test_all_workflows_are_found() -> None:
    assert len(FILES) == 4


@pytest.mark.parametrize("path", FILES, ids=name_file)
def test_each_job_has_the_least_rights(path: Path) -> None:
    workflow = read(path)
    assert workflow["permissions"] in READ_ONLY
    rights = {
        name: job.get("permissions", workflow["permissions"])
        for name, job in workflow["jobs"].items()
    }
    more = {name: given for name, given in rights.items() if given not in READ_ONLY}
    assert more == (RIGHTS if path.name == "update.yml" else {})


@pytest.mark.parametrize("path", FILES, ids=name_file)
def test_each_job_has_a_time_limit(path: Path) -> None:
    """GitHub's own limit is six hours, which somebody pays."""
    assert all("timeout-minutes" in job for job in read(path)["jobs"].values())


@pytest.mark.parametrize("path", FILES, ids=name_file)
def test_no_step_leaves_its_token_behind(path: Path) -> None:
    """Otherwise each later step could read the token from `.git/config`."""
    steps = read_steps(path)
    checkouts = [step for step in steps if step.get("uses", "").startswith("actions/checkout@")]
    assert checkouts
    assert all(step["with"]["persist-credentials"] is False for step in checkouts)


def test_actions_are_pinned() -> None:
    """A tag can be moved, and a hash cannot. An action has the same hash everywhere."""
    hashes: dict[str, set[str]] = {}
    for path in FILES:
        for use in re.findall(r"uses: (.*)", path.read_text()):
            found = re.fullmatch(r"([\w-]+/[\w-]+)[\w/-]*@([0-9a-f]{40}) # (v\d+\.\d+\.\d+)", use)
            assert found, use
            hashes.setdefault(found[1], set()).add(f"{found[2]} {found[3]}")
    assert len(hashes) == 6
    assert all(len(versions) == 1 for versions in hashes.values()), hashes


def test_code_runs_without_a_token() -> None:
    workflow = read(ROOT / "template" / ".github" / "workflows" / "update.yml")
    assert "env" not in workflow  # all jobs would get it
    for name, job in workflow["jobs"].items():
        text = str(job)
        runs_code = re.search(r"\b(uv run|just|python|core/\S+\.(py|sh))\b", text) is not None
        assert runs_code is (name in {"look", "merge"})
        assert not (runs_code and ("token" in text or "secrets." in text))


def run_zizmor(folder: Path) -> "subprocess.CompletedProcess[str]":
    """Check the workflows and the file of Dependabot, without requests."""
    options = ["--offline", "--no-config", "--no-progress", "--strict-collection"]
    command = [ZIZMOR, *options, str(folder / ".github")]
    return subprocess.run(command, capture_output=True, text=True, timeout=60)


def test_zizmor_finds_nothing_in_the_template() -> None:
    done = run_zizmor(ROOT)
    assert done.returncode == 0, done.stdout
    assert done.stderr.count("completed") == 3


def test_zizmor_finds_nothing_in_a_service(template: Path, tmp_path: Path) -> None:
    done = run_zizmor(copy(template, tmp_path / "service"))
    assert done.returncode == 0, done.stdout
    assert done.stderr.count("completed") == 3


def test_zizmor_finds_a_fault(tmp_path: Path) -> None:
    """A check that finds nothing must be able to find something."""
    workflow = tmp_path / ".github" / "workflows" / "ci.yml"
    workflow.parent.mkdir(parents=True)
    text = (ROOT / ".github" / "workflows" / "ci.yml").read_text()
    workflow.write_text(re.sub("@[0-9a-f]{40}", "@v1", text))
    done = run_zizmor(tmp_path)
    assert done.returncode
    assert "unpinned-uses" in done.stdout


@pytest.mark.parametrize("folder", FOLDERS, ids=name_file)
def test_dependabot_keeps_the_pins_current(folder: Path) -> None:
    """An update changes nothing in `.github/`. The template's file also cares for services."""
    (update,) = read(folder / "dependabot.yml")["updates"]
    assert update["package-ecosystem"] == "github-actions"
    folders = update.get("directories") or [update["directory"]]
    # Dependabot reads `.github/workflows` for `/`, and any other folder itself.
    read_from = {folder.parent / (name.strip("/") or ".github/workflows") for name in folders}
    assert read_from == {path.parent for path in FILES if path.is_relative_to(folder.parent)}

"""The workflows have the least rights, and code of a new template version gets no token."""

from pathlib import Path
from typing import Any

import pytest
import yaml
from conftest import ROOT

FILES = [
    path
    for folder in (ROOT, ROOT / "template")
    for path in sorted((folder / ".github" / "workflows").glob("*.yml"))
]
READ_ONLY: list[dict[str, str]] = [{}, {"contents": "read"}]
WRITES = {"update.yml": {"propose"}}
"""The jobs that may write."""


def read(path: Path) -> dict[str, Any]:
    content: dict[str, Any] = yaml.safe_load(path.read_text())
    return content


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
    writing = {name for name, given in rights.items() if given not in READ_ONLY}
    assert writing == WRITES.get(path.name, set())


@pytest.mark.parametrize("path", FILES, ids=name_file)
def test_no_step_leaves_its_token_behind(path: Path) -> None:
    """Otherwise each later step could read the token from `.git/config`."""
    steps = [step for job in read(path)["jobs"].values() for step in job["steps"]]
    checkouts = [step for step in steps if step.get("uses", "").startswith("actions/checkout@")]
    assert checkouts
    assert all(step["with"]["persist-credentials"] is False for step in checkouts)


def test_code_of_a_new_version_gets_no_token() -> None:
    workflow = read(ROOT / "template" / ".github" / "workflows" / "update.yml")
    assert "env" not in workflow  # all jobs would get it
    for name, job in workflow["jobs"].items():
        text = str(job)
        runs_code = "uv run" in text
        assert runs_code is (name not in WRITES["update.yml"])
        assert not (runs_code and ("token" in text or "secrets." in text))

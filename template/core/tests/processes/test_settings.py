"""A missing or wrong setting ends each process at once, with one line that names it."""

import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from core.config import SettingsError, load_settings
from core.tasks.engines import DEFAULT

ROOT = Path.cwd()
GOOD = {
    "SECRET_KEY": "x" * 32,
    "MONGODB_URL": "mongodb://127.0.0.1:1",
    "REDIS_URL": "redis://127.0.0.1:1",
}


def run(
    folder: Path, *arguments: str, **environment: str | None
) -> subprocess.CompletedProcess[str]:
    """`python -m core ...` in a folder without a .env, with these settings only."""
    inherited = {name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ}
    settings = {name: value for name, value in {**GOOD, **environment}.items() if value is not None}
    return subprocess.run(
        [sys.executable, "-m", "core", *arguments],
        cwd=folder,
        env={**inherited, "PYTHONPATH": str(ROOT), **settings},
        capture_output=True,
        text=True,
        timeout=30,
    )


@pytest.mark.parametrize(
    ("environment", "said"),
    [
        (
            {"SECRET_KEY": None, "MONGODB_URL": None},
            "SECRET_KEY is missing; MONGODB_URL is missing",
        ),
        ({"MONGODB_URL": "localhost"}, "MONGODB_URL: "),
        ({"SECRET_KEY": "short"}, "SECRET_KEY: Value should have at least 32 characters"),
        ({"PORT": "many"}, "PORT: "),
        (
            {"ENVIRONMENT": "production", "SECRET_KEY": "development-only-secret-key-change-me"},
            "SECRET_KEY is a development secret; production needs one of its own; SMTP_URL is missing",
        ),
        (
            {"ENVIRONMENT": "production", "SMTP_URL": "smtp://127.0.0.1:1"},
            "MAIL_FROM is missing, which production",
        ),
        ({"ENVIRONMENT": "production"}, "PUBLIC_URL is missing, which production needs"),
    ],
)
def test_the_setting_is_named(tmp_path, monkeypatch, environment, said):
    monkeypatch.chdir(tmp_path)
    for name in {"ENVIRONMENT", "SMTP_URL", "MAIL_FROM", "PUBLIC_URL", "BLOB_URL", *GOOD}:
        monkeypatch.delenv(name, raising=False)
    for name, value in {**GOOD, **environment}.items():
        if value is not None:
            monkeypatch.setenv(name, value)
    with pytest.raises(SettingsError) as error:
        load_settings()
    assert str(error.value).startswith("settings: ")
    assert said in str(error.value)


@pytest.mark.parametrize(
    ("command", "environment", "said"),
    [
        ("worker", {"MONGODB_URL": None}, "MONGODB_URL is missing"),
        (
            "web",
            {"TASK_ENGINE": "rabbit"},
            f"TASK_ENGINE is one of {'local' if DEFAULT == 'local' else 'local, '}",
        ),
        (
            "web",
            {"SERVICE": "app.nowhere:service"},
            "SERVICE=app.nowhere:service cannot be loaded: ",
        ),
        pytest.param(
            "worker",
            {"REDIS_URL": None},
            "REDIS_URL is missing: the job queue needs it",
            marks=pytest.mark.skipif(DEFAULT == "local", reason="the job queue is off"),
        ),
    ],
)
def test_the_process_ends_with_one_line(tmp_path, command, environment, said):
    done = run(tmp_path, command, **environment)

    assert done.returncode == 2
    assert done.stderr.startswith("error: settings: ")
    assert said in done.stderr
    assert done.stderr.count("\n") == 1


def test_a_wrong_value_is_not_repeated(tmp_path):
    assert "hunter2" not in run(tmp_path, "web", MONGODB_URL="http://me:hunter2@host").stderr


def test_setup_writes_a_fresh_secret_once(tmp_path):
    (tmp_path / ".env.example").write_text((ROOT / ".env.example").read_text())
    assert "wrote .env" in run(tmp_path, "setup").stdout
    first = (tmp_path / ".env").read_text()
    assert "development-only" not in first
    assert first.count("SECRET_KEY=") == 1
    assert stat.S_IMODE((tmp_path / ".env").stat().st_mode) == 0o600

    assert "left as it is" in run(tmp_path, "setup").stdout
    assert (tmp_path / ".env").read_text() == first

    (tmp_path / ".env").write_text("PORT=8001")
    assert "added a fresh secret key" in run(tmp_path, "setup").stdout
    assert (tmp_path / ".env").read_text().startswith("PORT=8001\nSECRET_KEY=")


@pytest.mark.parametrize(
    ("environment", "link"),
    [
        ({}, "http://127.0.0.1:8000/reset"),
        ({"PORT": "8123"}, "http://127.0.0.1:8123/reset"),
        ({"PUBLIC_URL": "https://example.com"}, "https://example.com/reset"),
        ({"PUBLIC_URL": "https://example.com/service"}, "https://example.com/service/reset"),
    ],
)
def test_links_lead_to_where_the_service_is(tmp_path, monkeypatch, environment, link):
    monkeypatch.chdir(tmp_path)
    for name in ("PORT", "PUBLIC_URL"):
        monkeypatch.delenv(name, raising=False)
    for name, value in {**GOOD, **environment}.items():
        monkeypatch.setenv(name, value)
    assert load_settings().link_to("reset") == link

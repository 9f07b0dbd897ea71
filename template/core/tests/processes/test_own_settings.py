"""A service's own settings are checked when a process starts, and misspelled ones are named."""

import subprocess
import sys
from pathlib import Path

import pytest

from core.tests.processes.conftest import environment

SECRET = "0123456789abcdefghijklmnopqrstuvwxyz0123456789abcdefghijklmnopqr"
MAIN = """
from app.settings import app_settings
from core.entry import Service
from core.tasks import Worker

service = Service([], [], Worker(), settings=app_settings)
"""
RECOMMENDED = """
from pydantic import SecretStr
from core.config import BaseServiceSettings, read_settings

class AppSettings(BaseServiceSettings):
    payment_key: SecretStr
    shipping_days: int = 2

app_settings = read_settings(AppSettings)
"""
OBVIOUS = """
from pydantic import SecretStr
from pydantic_settings import BaseSettings, SettingsConfigDict

class AppSettings(BaseSettings):
    model_config = SettingsConfigDict(env_file=".env")
    payment_key: SecretStr
    shipping_days: int = 2

app_settings = AppSettings()
"""
INVALID_MODEL = """
from pydantic import BaseModel

class Product(BaseModel):
    price: int

Product()
"""
SETTINGS = {
    "SECRET_KEY": None,
    "SERVICE": "app.main:service",
    "SMTP_URL": "smtp://127.0.0.1:1",
    "TASK_ENGINE": "local",
    "TASK_TIMEOTU": "60",
}
STARTS = [
    (RECOMMENDED, "web"),
    (RECOMMENDED, "worker"),
    (RECOMMENDED, "shell"),
    (RECOMMENDED, "dev"),
    (OBVIOUS, "web"),
    (OBVIOUS, "dev"),
]


@pytest.fixture
def app(root: Path, elsewhere: Path) -> Path:
    """The folder `app/` of a service. Each process finds a `.env` in its working directory."""
    for folder in (root, elsewhere):
        (folder / ".env").write_text(f"SECRET_KEY={SECRET}\n")
    app = root / "app"
    app.mkdir()
    (app / "main.py").write_text(MAIN)
    (app / "settings.py").write_text(RECOMMENDED)
    return app


@pytest.mark.parametrize(("source", "command"), STARTS)
def test_a_missing_or_wrong_setting_ends_a_process_with_one_line(run, app, source, command):
    (app / "settings.py").write_text(source)
    done = run(command, SHIPPING_DAYS="several", **SETTINGS)
    assert done.returncode == 2
    assert done.stderr.startswith("error: settings: PAYMENT_KEY is missing; SHIPPING_DAYS: ")
    assert done.stderr.count("\n") == 1
    output = done.stdout + done.stderr
    assert "several" not in output
    assert SECRET[:5] not in output


def test_another_invalid_model_is_not_taken_for_settings(run, app):
    (app / "main.py").write_text(INVALID_MODEL)
    done = run("web", **SETTINGS)
    assert done.returncode == 2
    assert done.stderr.startswith("error: app/main.py:7: ")
    assert "validation error for Product" in done.stderr


@pytest.mark.parametrize(("environment", "count"), [("development", 0), ("production", 1)])
def test_a_worker_names_a_misspelled_setting_in_production(run, app, environment, count):
    """In development the web process has the same variables, and names it."""
    done = run(
        "worker",
        PAYMENT_KEY="x",
        SHIPING_DAYS="3",
        ENVIRONMENT=environment,
        LOG_FORMAT="json",
        MAIL_FROM="no-reply@example.com",
        PUBLIC_URL="https://example.com",
        BLOB_URL="s3://bucket",
        **SETTINGS,
    )
    assert done.returncode == 0
    for line in (
        "TASK_TIMEOTU is not a setting; did you mean TASK_TIMEOUT?",
        "SHIPING_DAYS is not a setting; did you mean SHIPPING_DAYS?",
    ):
        assert done.stderr.count(line) == count


def test_a_missing_setting_ends_a_test_run_with_one_line(root: Path, app):
    tests = root / "tests"
    tests.mkdir()
    (tests / "test_one.py").write_text("import app.settings\n\ndef test_one(): ...\n")

    def run_tests() -> "subprocess.CompletedProcess[str]":
        return subprocess.run(
            [sys.executable, "-m", "pytest", "-p", "core.testing", "-n2", "tests"],
            cwd=root,
            env=environment(root, **SETTINGS),
            capture_output=True,
            text=True,
            timeout=120,
        )

    done = run_tests()
    assert (done.returncode, done.stdout) == (4, "")
    line = done.stderr.splitlines()[-2]  # pytest ends with an empty one
    assert line.startswith("ERROR: settings: PAYMENT_KEY is missing")
    assert line.endswith("For tests, tests/conftest.py can set it.")
    conftest = "import os\n\nos.environ['PAYMENT_KEY'] = 'for tests'\n"
    (tests / "conftest.py").write_text(conftest)
    assert "1 passed" in run_tests().stdout

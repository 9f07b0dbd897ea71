"""A missing or wrong setting ends each process at once, with one line that names it."""

import stat
import subprocess

import pytest

from core.config import ROOT
from core.tasks.engines import AVAILABLE, DEFAULT

with_queue = pytest.mark.skipif(DEFAULT == "local", reason="the job queue is off")


@pytest.mark.parametrize(
    ("command", "settings", "problem"),
    [
        ("worker", {"MONGODB_URL": None}, "MONGODB_URL is missing"),
        ("web", {"TASK_ENGINE": "rabbit"}, f"TASK_ENGINE is one of {', '.join(AVAILABLE)} in"),
        (
            "web",
            {"SERVICE": "app.nowhere:service"},
            "SERVICE=app.nowhere:service cannot be loaded: ",
        ),
        pytest.param(
            "worker",
            {"REDIS_URL": None},
            "REDIS_URL is missing: the job queue needs it",
            marks=with_queue,
        ),
        pytest.param(
            "worker",
            {"REDIS_URL": "redis+sentinel://a,b/main?retries=2"},
            "REDIS_URL has a wrong option: ",
            marks=with_queue,
        ),
    ],
)
def test_the_process_ends_with_one_line(run, root, command, settings, problem):
    (root / "app").mkdir()
    done = run(command, **settings)

    assert done.returncode == 2
    assert done.stderr.startswith("error: settings: ")
    assert problem in done.stderr
    assert done.stderr.count("\n") == 1


def test_a_wrong_value_is_not_repeated(run):
    done = run("web", MONGODB_URL="http://me:hunter2@host")
    assert done.returncode == 2
    assert "hunter2" not in done.stderr


def test_setup_writes_a_new_secret_key_once(run, root):
    (root / ".env.example").write_text((ROOT / ".env.example").read_text())
    env = root / ".env"
    assert run("setup").stdout == "wrote .env with a new secret key\n"
    first = env.read_text()
    assert "development-only" not in first
    assert first.count("SECRET_KEY=") == 1
    assert stat.S_IMODE(env.stat().st_mode) == 0o600

    assert run("setup").stdout == ".env exists and was left unchanged\n"
    assert env.read_text() == first

    env.write_text("PORT=8001")
    assert run("setup").stdout == "added a new secret key to .env\n"
    assert env.read_text().startswith("PORT=8001\nSECRET_KEY=")


def test_setup_writes_no_secret_that_git_would_commit(run, root):
    """Without a .gitignore, `git add --all` would take the file."""
    subprocess.run(["git", "init", "--quiet"], cwd=root, check=True)
    (root / ".env").write_text("PORT=8001\n")
    done = run("setup")
    assert done.returncode == 2
    assert done.stderr == (
        "error: git would commit .env, which contains secrets."
        " Add the lines `.env` and `.dev/` to .gitignore, then run the command again."
        " If git already tracks the file, run `git rm --cached .env` too.\n"
    )
    assert (root / ".env").read_text() == "PORT=8001\n"

    (root / ".gitignore").write_text(".env\n")
    assert run("setup").stdout == "added a new secret key to .env\n"
    (root / ".gitignore").unlink()
    assert run("setup").stdout == ".env exists and was left unchanged\n"


def test_setup_works_without_git(run, root, elsewhere):
    assert run("setup", PATH=str(elsewhere)).stdout == "wrote .env with a new secret key\n"

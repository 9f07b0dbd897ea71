"""The commands about workers, figures and roles."""

import json
import re

import pytest

from core.models import UserModel
from core.tasks import JobStatus
from core.tasks.engines import DEFAULT
from core.tests.service import ship, worker

ENDED = {"completed", "failed", "aborted"}
OFF = "The job queue is off, so only the console shows unfinished jobs."


async def test_workers_are_listed(command, app, running_worker):
    done = await command("workers")
    assert (done.status, done.errors) == (0, "")
    headings, *lines = done.output.splitlines()
    assert headings.split() == ["ID", "HOST", "PID", "VERSION", "RUNNING", "STARTED", "HEARTBEAT"]
    (found,) = json.loads((await command("workers", "--json")).output)
    (line,) = lines
    (expected,) = await worker.workers()
    assert line.split()[:3] == [expected.id, expected.host, str(expected.pid)]
    assert (found["id"], found["pid"]) == (expected.id, expected.pid)
    assert found["seen_at"].endswith("Z")


@pytest.mark.skipif(DEFAULT == "local", reason="the web process runs the jobs")
async def test_no_workers_are_a_sentence(command, settings, monkeypatch):
    monkeypatch.setenv("TASK_ENGINE", DEFAULT)
    done = await command("workers")
    assert (done.status, done.output) == (0, "")
    sentence = "No worker is alive. Start one with `just worker`, or with `just dev`.\n"
    assert done.errors == sentence
    assert (await command("stats")).output.startswith(sentence)


async def test_without_the_queue_the_figures_are_those_that_a_command_can_know(command, app):
    await (await ship.enqueue("o-1")).wait(30)
    await worker.history.write()
    found = json.loads((await command("stats", "--json")).output)
    assert found["jobs"].keys() == ENDED
    assert found["jobs"]["completed"] == (await worker.jobs.count())[JobStatus.COMPLETED] == 1
    assert found["tasks"] == {"hour": [], "day": []}
    done = await command("stats")
    assert (done.status, done.errors) == (0, "No job ran.\nNo job ran.\n")
    assert done.output.startswith(f"{OFF}\n")
    assert not re.search("pending|running|oldest|stashed", done.output)
    assert re.search(r"\ncompleted +1\n", done.output)


async def test_rates_are_listed_by_task(command, app):
    await (await ship.enqueue("o-1")).wait(30)
    await worker._opened.minutes.write(is_last=True)
    found = json.loads((await command("stats", "--json")).output)
    (row,) = found["tasks"]["hour"]
    assert (row["task"], row["completed"], row["failed"]) == ("ship", 1, 0)
    assert row["per_minute"] == pytest.approx(1 / 60, rel=0.02)  # the hour begins at a full minute
    assert 0 < row["p95_seconds"] < 30
    lines = (await command("stats")).output.splitlines()
    headings = lines[lines.index("The last hour") + 1]
    assert headings.split("  ")[0] == "TASK"


async def test_roles_are_given_and_taken_away(command, app):
    email, password = "eve@example.com", "correct horse battery\n"
    done = await command("admin", email, "--role", "viewer", typed=password)
    assert done.status == 0
    assert done.output == f"created the account {email}\n{email} is a viewer now.\n"
    user = await UserModel.find_one(UserModel.email == email)
    assert user
    assert (user.is_admin, user.is_viewer) == (False, True)

    done = await command("admin", email)
    assert done.output.startswith(f"{email} is an administrator now.")
    user = await UserModel.find_one(UserModel.email == email)
    assert user
    assert (user.is_admin, user.is_viewer) == (True, False)

    done = await command("admin", email, "--role", "none")
    assert (done.status, done.output) == (
        0,
        f"{email} is neither an administrator nor a viewer now.\n",
    )
    user = await UserModel.find_one(UserModel.email == email)
    assert user
    assert (user.is_admin, user.is_viewer) == (False, False)

    done = await command("admin", "none@example.com", "--role", "none")
    assert (done.status, done.errors) == (2, "error: none@example.com has no account\n")

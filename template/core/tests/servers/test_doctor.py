"""`just doctor` finds each fault, and says what to do."""

import json
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest

from core.commands import checks
from core.commands.checks import examine, judge_clock
from core.config import get_settings
from core.dev.servers import MONGODB, free_port, start_server
from core.entry import Service, open_service
from core.migrations import files
from core.models import AlertModel, DeadLetterModel, UserModel
from core.tasks.engines import DEFAULT
from core.testing import empty
from core.tests.servers.command_line import Done

NOWHERE = "127.0.0.1:1"
with_queue = pytest.mark.skipif(DEFAULT == "local", reason="the job queue is off")


def find(done: Done, state: str) -> dict[str, str]:
    """Return what was found by check, for the findings of a state; all have a next step."""
    assert done.errors == ""
    findings = [each for each in json.loads(done.output) if each["state"] == state]
    assert state == "ok" or all(each["next_step"] for each in findings)
    return {each["check"]: each["text"] for each in findings}


async def test_a_healthy_service_has_no_finding(command, app, running_worker):
    done = await command("doctor", "--json")
    assert done.status == 0
    assert find(done, "problem") == find(done, "warning") == {}
    found = find(done, "ok")
    expected = {"settings", "MongoDB", "clock", "indexes", "migrations", "workers", "schedules"}
    assert found.keys() >= expected | {"queue"}
    assert ("backlog" in found) == bool(running_worker)  # without the queue, it is elsewhere
    assert found["MongoDB"].startswith("version ")
    if running_worker:
        assert f"({running_worker.pid})" in found["workers"]
        assert found["queue"].split()[0] in {"redis", "valkey"}


async def test_the_findings_are_a_table_for_people(command, app):
    done = await command("doctor")
    headings, first, *_ = done.output.splitlines()
    assert headings.split() == ["STATE", "CHECK", "FOUND", "NEXT", "STEP"]
    assert first.split() == ["ok", "settings", "ENVIRONMENT", "is", "test"]


async def test_mongodb_is_down(command, app, monkeypatch):
    monkeypatch.setenv("MONGODB_URL", f"mongodb://ada:hunter2@{NOWHERE}/")
    done = await command("doctor", "--json")
    assert done.status == 1
    (problem,) = find(done, "problem").values()
    assert problem.startswith(f"MongoDB at {NOWHERE} cannot be used: ")
    assert "hunter2" not in done.output
    assert {"queue", "schedules"} <= find(done, "ok").keys()


@with_queue
async def test_mongodb_is_no_replica_set(command, app, monkeypatch, tmp_path):
    def make_command(port: int, data: Path) -> list[str]:
        return [each for each in MONGODB.command(port, data) if each not in ("--replSet", "rs0")]

    alone = replace(MONGODB, command=make_command, prepare=lambda port: None)
    port = free_port()
    process = start_server(alone, tmp_path / "mongod", port)
    try:
        monkeypatch.setenv("MONGODB_URL", MONGODB.url(port))
        done = await command("doctor", "--json")
    finally:
        process.kill()
        process.wait()
    assert find(done, "problem")["MongoDB"] == "the server is not part of a replica set"


@with_queue
async def test_the_queues_server_is_down(command, app, monkeypatch):
    monkeypatch.setenv("TASK_ENGINE", DEFAULT)
    monkeypatch.setenv("REDIS_URL", f"redis://:hunter2@{NOWHERE}/0")
    done = await command("doctor", "--json")
    assert done.status == 1
    problems = find(done, "problem")
    assert "queue" in problems
    assert "backlog" not in problems
    assert NOWHERE in problems["queue"]
    assert "hunter2" not in done.output
    assert {"MongoDB", "indexes"} <= find(done, "ok").keys()


@with_queue
async def test_no_worker_is_running(command, settings, monkeypatch):
    monkeypatch.setenv("TASK_ENGINE", DEFAULT)
    done = await command("doctor", "--json")
    assert done.status == 1
    assert find(done, "problem")["workers"] == "no worker is alive, so no job runs"


async def test_indexes_are_missing_or_not_declared(command, app):
    await UserModel.get_pymongo_collection().drop_index("email_1")
    await DeadLetterModel.get_pymongo_collection().create_index("mine")
    done = await command("doctor", "--json")
    assert done.status == 1
    assert find(done, "problem") == {"indexes": "missing: users.email_1"}
    assert find(done, "warning") == {"indexes": "not declared: dead_letters.mine_1"}
    # The command itself makes no index.
    assert "email_1" not in await UserModel.get_pymongo_collection().index_information()
    await DeadLetterModel.get_pymongo_collection().drop_index("mine_1")
    await UserModel.get_pymongo_collection().create_index("email", unique=True)


async def test_a_broken_schedule(command, app, monkeypatch):
    monkeypatch.setenv("SERVICE", "core.tests.broken_service:service")
    done = await command("doctor", "--json")
    assert done.status == 1
    assert "a crontab has five fields" in find(done, "problem")["code"]
    for name, value in {
        "ENVIRONMENT": "production",
        "SMTP_URL": "smtp://127.0.0.1:1",
        "MAIL_FROM": "me@example.com",
        "PUBLIC_URL": "https://example.com",
    }.items():
        monkeypatch.setenv(name, value)
    done = await command("doctor", "--json")
    assert done.status == 1
    assert find(done, "problem")["schedules"].startswith("report is broken: ")


async def test_code_that_cannot_be_imported(command, app, monkeypatch):
    monkeypatch.setenv("SERVICE", "core.tests.nothing:service")
    done = await command("doctor", "--json")
    assert done.status == 1
    assert "core.tests.nothing" in find(done, "problem")["code"]
    assert "MongoDB" in find(done, "ok")


async def test_a_wrong_setting_is_the_only_finding(command, app, monkeypatch):
    monkeypatch.setenv("PORT", "many")
    done = await command("doctor", "--json")
    assert done.status == 1
    assert find(done, "ok") == {}
    assert find(done, "problem")["settings"].startswith("settings: PORT: ")


async def test_an_alert_is_a_warning(command, app, settings):
    now = datetime.now(UTC)
    alert = AlertModel(
        id="backlog:all",
        kind="backlog",
        key="all",
        title="The workers do not keep up",
        text="5 jobs wait.",
        started_at=now,
        seen_at=now,
    )
    await alert.insert()
    done = await command("doctor", "--json")
    assert done.status == 0
    assert find(done, "warning") == {"alerts": "The workers do not keep up: 5 jobs wait."}
    assert f"Look at {settings.link_to('console')}" in done.output


@with_queue
async def test_a_backlog(command, settings, worker, monkeypatch):
    monkeypatch.setenv("TASK_ENGINE", DEFAULT)
    monkeypatch.setenv("TASK_BACKLOG_LIMIT", "1")

    @worker.task
    async def note() -> None: ...

    get_settings.cache_clear()
    async with open_service(Service([], [], worker), get_settings()):
        await note.enqueue()
    done = await command("doctor", "--json")
    await empty(settings)
    (backlog,) = find(done, "warning").values()
    assert backlog.startswith("The workers do not keep up: 1 job pending")


async def test_a_setting_that_a_part_refuses(command, app, monkeypatch):
    monkeypatch.setenv("TASK_ENGINE", "none")
    monkeypatch.setenv("REDIS_URL", f"redis://{NOWHERE}/0")
    done = await command("doctor", "--json")
    assert done.status == 1
    assert "none" in find(done, "problem")["settings"]


async def test_a_migration_that_is_left(settings, tmp_path, monkeypatch):
    (tmp_path / "1_rename.py").write_text("")
    monkeypatch.setattr(files, "FOLDER", tmp_path)
    monkeypatch.setattr(checks, "configure_logging", lambda *_: None)  # it would last
    found = {each.check: each for each in await examine()}
    await empty(settings)
    assert found["migrations"].text == "not applied: 1_rename"
    assert found["migrations"].next_step == "Run `just migrate`."


@pytest.mark.parametrize(
    ("ahead", "state", "text"),
    [
        (0.2, "ok", "the clock of MongoDB is 0.2 s ahead of this machine's"),
        (-5, "warning", "the clock of MongoDB is 5.0 s behind this machine's"),
        (31, "problem", "the clock of MongoDB is 31.0 s ahead of this machine's"),
    ],
)
def test_a_clock_is_judged(ahead, state, text):
    finding = judge_clock("MongoDB", ahead)
    assert (finding.state, finding.text) == (state, text)
    assert bool(finding.next_step) == (state != "ok")

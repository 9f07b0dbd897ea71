"""The commands for dead letters, schedules and history, with the output that a person reads."""

import json
import re
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from core.entry import open_service
from core.models import AuditModel, ScheduleModel
from core.tasks import JobFailed
from core.testing import empty, eventually
from core.tests.running import WAIT
from core.tests.servers.command_line import Done
from core.tests.service import service, ship, worker


def find_columns(line: str) -> list[int]:
    """Return where the cells of a table's row begin. Two spaces separate cells."""
    return [match.end() for match in re.finditer(r"^|  +", line)]


TIME = r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d \S+"


def find_line(output: str, start: str) -> str:
    """Return the rest of the line that begins with `start`."""
    (line,) = [line for line in output.splitlines() if line.startswith(start)]
    return line.removeprefix(start)


@pytest.fixture
async def failed_orders(app, monkeypatch) -> list[str]:
    """The ids of two dead letters, the oldest first."""

    async def fail(order: str) -> None:
        raise ValueError(f"the disk is full\nat {order}")

    with monkeypatch.context() as patch:
        patch.setattr(ship, "function", fail)
        for order in ("o-1", "o-2"):
            with pytest.raises(JobFailed):
                await (await ship.enqueue(order)).result(WAIT)

    async def find() -> list[str] | None:
        ids = [letter.id for letter in await worker.dead_letters.list()]
        return ids if len(ids) == 2 else None

    ids = await eventually(find, WAIT)
    assert ids
    return ids[::-1]


async def test_dead_letters_are_listed_and_shown(command, failed_orders):
    first, second = failed_orders
    done = await command("dead-letters", "list", "--task", "ship")
    assert (done.status, done.errors) == (0, "")
    headings, newest, oldest = done.output.splitlines()
    assert re.split("  +", headings) == ["ID", "TASK", "ENDED", "ERROR"]
    assert find_columns(headings) == find_columns(newest)
    assert re.fullmatch(rf"{second}  ship  {TIME}  ValueError: the disk is full", newest)
    assert oldest.startswith(f"{first}  ")
    done = await command("dead-letters", "show", second)
    assert 'arguments: {"order": "o-2"}' in done.output
    assert "raise ValueError" in done.output


async def test_dead_letters_are_replayed_and_discarded(command, failed_orders):
    first, second = failed_orders
    done = await command("dead-letters", "replay")
    assert (done.status, done.output) == (2, "")
    assert done.errors.startswith("error: name the dead letters to replay")

    done = await command("dead-letters", "replay", first)
    assert done.status == 0
    job_id = find_line(done.output, f"{first} replayed as job ")
    assert find_line(done.output, f"job {job_id} ") == "completed"

    done = await command("dead-letters", "discard", "--error", "ValueError", "--all")
    assert (done.status, done.output, done.errors) == (0, "1 discarded\n", "")
    done = await command("dead-letters", "replay", second)
    assert (done.status, done.errors) == (2, f"error: dead letter {second} was discarded\n")


async def test_all_dead_letters_that_match_are_replayed(command, failed_orders):
    done = await command("dead-letters", "list", "--limit", "1")
    assert len(done.output.splitlines()) == 2
    assert done.errors == "1 of 2; --limit prints more\n"

    done = await command("dead-letters", "replay", "--task", "ship", "--all")
    assert (done.status, done.output, done.errors) == (0, "2 replayed\n", "")
    assert await worker.dead_letters.count() == 0


async def test_actions_are_in_the_audit_log(command, failed_orders):
    """The entries have the names that the console uses. A command has no user."""
    first, second = failed_orders
    await command("dead-letters", "replay", first)
    await command("dead-letters", "replay", "--task", "none", "--all")  # changes nothing
    await command("dead-letters", "discard", "--task", "ship", "--all")
    assert (await command("dead-letters", "discard", second, "none")).status == 2
    for action in ("disable", "enable", "run"):
        await command("schedules", action, "hourly")
    await command("jobs", "abort", "none")

    entries = await AuditModel.find_all().sort("_id").to_list()
    assert {(entry.actor, bool(entry.correlation_id)) for entry in entries} == {(None, True)}
    one = {"chosen": 1, "changed": 1, "ids": ["hourly"]}
    assert [(entry.action, entry.details) for entry in entries] == [
        ("dead_letter.replayed", {**one, "ids": [first]}),
        ("dead_letter.discarded", {**one, "ids": [second], "filters": {"task": "ship"}}),
        ("dead_letter.discarded", {"chosen": 2, "changed": 1, "ids": [second, "none"]}),
        ("schedule.disabled", one),
        ("schedule.enabled", one),
        ("schedule.started", one),
        ("job.aborted", {"chosen": 1, "changed": 0, "ids": ["none"]}),
    ]


async def test_failed_attempts_are_listed(command, failed_orders):
    await worker.history.write()
    options = ("--task", "ship", "--ended-as", "failed", "--limit", "1")
    done = await command("history", *options)
    headings, line = done.output.splitlines()
    assert re.split("  +", headings)[:3] == ["STARTED", "TASK", "ENDED AS"]
    newest, _ = await worker.dead_letters.list()
    error = "ValueError: the disk is full"
    for since, found in (("1h", 2), ("30m", 2), ("2d", 2), ("0m", 0)):
        recent = json.loads((await command("history", "--since", since, "--json")).output)
        assert len(recent) == found
    expected = rf"{TIME}  ship  failed    \d+ ms +{newest.job_id}  {error}"
    assert re.fullmatch(expected, line)


async def test_json_is_one_document_with_the_data_of_the_api(command, failed_orders):
    await worker.history.write()

    async def read(*arguments: str) -> list[dict[str, Any]]:
        done = await command(*arguments, "--json")
        assert done.status == 0
        found: list[dict[str, Any]] = json.loads(done.output)
        return found

    letters = await worker.dead_letters.list()
    found = await read("dead-letters", "list", "--limit", "1")
    assert [each["id"] for each in found] == [letters[0].id]
    assert datetime.fromisoformat(found[0]["died_at"]) == letters[0].died_at
    assert not found[0].keys() & {"arguments", "traceback", "body"}
    (shown,) = await read("dead-letters", "show", letters[0].id)
    assert shown["arguments"] == {"order": "o-2"}
    assert "raise ValueError" in shown["traceback"]

    runs = await worker.history.list()
    found = await read("history")
    assert [each["job_id"] for each in found] == [run.job_id for run in runs]
    assert datetime.fromisoformat(found[0]["started_at"]) == runs[0].started_at

    (schedule,) = await read("schedules", "list")
    (view,) = await worker.schedules.list()
    assert (schedule["id"], schedule["trigger"]) == (view.id, view.trigger)
    assert datetime.fromisoformat(schedule["next_run"]) == view.next_run


async def test_json_of_an_empty_list_is_an_empty_document(command, app):
    groups = [("jobs",), ("dead-letters",), ("dead-letters", "--task", "none")]  # they list
    for arguments in (*groups, ("history",), ("schedules", "list", "none")):
        assert await command(*arguments, "--json") == Done(0, "[]\n", "")


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (("dead-letters", "list"), "No dead letters."),
        (("dead-letters", "list", "--task", "none"), "No dead letters match."),
        (("dead-letters", "replay", "--task", "none", "--all"), "No dead letters match."),
        (("schedules", "list", "none"), "No schedules."),
        (("history", "--task", "none"), "No runs in the history match."),
    ],
    ids=lambda part: part[0],
)
async def test_an_empty_list_is_a_sentence(command, app, arguments, sentence):
    done = await command(*arguments)
    # Nothing on standard output, so a script finds no rows.
    assert (done.status, done.output, done.errors) == (0, "", f"{sentence}\n")


async def test_a_schedule_is_disabled_run_and_listed(command, app):
    assert (await command("schedules", "disable", "hourly")).output == "hourly disabled\n"
    done = await command("schedules", "run", "hourly")
    # The job runs in the command's process, but its log lines are left out.
    first, second = done.output.splitlines()
    job_id = first.removeprefix("hourly runs as job ")
    assert (second, done.errors) == (f"job {job_id} completed", "")
    done = await command("schedules", "list")
    assert (done.status, done.errors) == (0, "")
    headings, line = done.output.splitlines()
    expected = rf"hourly  disabled  {TIME}  {TIME}  completed  interval hours=1"
    assert re.fullmatch(expected, line)
    *starts, remark = find_columns(headings)
    assert headings[remark:] == "REMARK"
    assert find_columns(line) == starts


async def test_an_unknown_or_missing_schedule_is_an_error(command, app):
    done = await command("schedules", "run", "nothing")
    assert done.status == 2
    assert "error: there is no schedule nothing" in done.errors
    done = await command("schedules", "enable")
    assert done.status == 2
    assert done.errors.startswith("error: missing argument 'ID'.")


async def test_a_broken_schedule_is_listed_in_production(command, monkeypatch):
    production = {
        "ENVIRONMENT": "production",
        "SMTP_URL": "smtp://127.0.0.1:1",
        "MAIL_FROM": "me@example.com",
        "PUBLIC_URL": "https://example.com",
        "SERVICE": "core.tests.broken_service:service",
    }
    for name, value in production.items():
        monkeypatch.setenv(name, value)
    done = await command("schedules", "list")
    assert done.status == 0
    report = find_line(done.output, "report  broken  ")
    assert "The report: a crontab has five fields" in report
    assert find_line(done.output, "visit   enabled  ").endswith("  The visit")


async def test_a_command_fires_no_schedule(command, settings, monkeypatch):
    """With the engine `local`, the job of a run would be lost when the command ends."""
    async with open_service(service, settings):
        await worker.schedules.register()
        schedules = ScheduleModel.get_pymongo_collection()
        past = datetime.now(UTC).replace(microsecond=0) - timedelta(minutes=5)
        await schedules.update_one({"_id": "hourly"}, {"$set": {"next_run": past}})
        # The command waits for its own job, long enough to look for schedules that are due.
        assert (await command("schedules", "run", "hourly")).status == 0
        state = await ScheduleModel.get("hourly")
    await empty(settings)
    assert state
    assert state.next_run == past

"""Alerts: each one starts, repeats and ends once for all processes, and no message is lost."""

import asyncio
import json
from collections.abc import Iterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread

import pytest
from pydantic import HttpUrl, SecretStr
from standardwebhooks import Webhook

from core.config import get_settings
from core.entry import Service, open_service
from core.models import (
    AlertCheckModel,
    AlertModel,
    DeadLetterModel,
    ScheduleModel,
    UserModel,
    WorkerModel,
)
from core.services.webhooks import new_webhook_secret
from core.tasks import Alert, JobFailed, PermanentError, failures
from core.tasks.alerts import Alerts, alerts, conditions
from core.tasks.dead_letters import MAX_GROUPED
from core.testing import empty, eventually
from core.tests.running import WAIT, consuming, running

KEY = "order ValueError"
HOUR = timedelta(hours=1)
WORKER = {
    "host": "one",
    "pid": 1,
    "version": "1",
    "engine": "redis",
    "concurrency": 1,
    "queue": "shop",
    "running": [],
    "running_count": 0,
    "started_at": datetime.now(UTC),
    "seen_at": datetime.now(UTC),
}
"""A worker without a name and a time of its end."""


@pytest.fixture
def run(run):
    """Like the fixture `run`, but a block begins when the worker counts as alive."""

    @asynccontextmanager
    async def run_alive():
        async with run() as worker:
            await eventually(worker.workers)
            yield worker

    return run_alive


@pytest.fixture
def told(worker) -> list[Alert]:
    """The alerts that a hook has got."""
    told: list[Alert] = []

    @worker.on_alert
    async def note(alert: Alert) -> None:
        told.append(alert)

    return told


async def add_letters(*numbers: int, task: str | None = "order", error: str = "ValueError", age=0):
    """Store dead letters that died some seconds ago."""
    died_at = datetime.now(UTC) - timedelta(seconds=age)
    for number in numbers:
        letter = DeadLetterModel(
            id=f"{task} {error} {number}",
            job_id=f"job-{number}",
            task=task,
            error_type=error,
            error=f"no order {number}",
            attempts=1,
            died_at=died_at + timedelta(milliseconds=number),
        )
        await letter.insert()


async def move_back(by: timedelta, **fields: str) -> None:
    """Move the times of all alerts into the past, as if so much time had passed."""
    names = ("started_at", "seen_at", "told_at", "ended_at", "claimed_until")
    moved = {name: {"$subtract": [f"${name}", by // timedelta(milliseconds=1)]} for name in names}
    await AlertModel.get_pymongo_collection().update_many(fields, [{"$set": moved}])


async def free_claims() -> None:
    """Let the next check call the hooks that have failed, as if some time had passed."""
    change = {"$set": {"claimed_until": None}}
    await AlertModel.get_pymongo_collection().update_many({}, change)


def summarize(told: list[Alert]) -> list[tuple[str, str, bool]]:
    """Return the alerts since the last call: kinds, keys, and whether each alert has ended."""
    summary = [(alert.kind, alert.key, alert.ended) for alert in told]
    told.clear()
    return summary


async def test_a_kind_of_dead_letters_is_told_once_repeated_and_ended(worker, run, told):
    @worker.task(max_retries=0)
    async def order(number: int) -> None:
        raise ValueError(f"no order {number}")

    async with run():
        for number in range(3):
            with pytest.raises(JobFailed):
                await (await order.enqueue(number)).result(WAIT)
        await worker.dead_letters.move()
        for _ in range(2):
            await worker.alerts.check()
        (alert,) = told
        assert (alert.kind, alert.key, alert.ended) == ("dead_letters", KEY, False)
        assert alert.title == "order fails with ValueError"
        assert alert.text == "3 dead letters, the latest one: ValueError: no order 2"
        assert alert.url == get_settings().link_to("console/failures")
        (stored,) = await worker.alerts.list()
        assert (stored.id, stored.title) == (f"dead_letters:{KEY}", alert.title)
        assert stored.started_at == alert.started_at

        told.clear()
        await move_back(HOUR)
        await worker.alerts.check()  # nothing has changed
        assert told == []
        with pytest.raises(JobFailed):
            await (await order.enqueue(3)).result(WAIT)
        await worker.dead_letters.move()
        await worker.alerts.check()
        await worker.alerts.check()
        (repeated,) = told
        assert repeated.text.startswith("4 dead letters, the latest one: ValueError: no order 3")
        assert repeated.id != alert.id
        assert repeated.started_at < alert.started_at

        told.clear()
        assert await worker.dead_letters.discard_many() == 4
        await worker.alerts.check()
        assert told == []  # it could come back at once
        await move_back(timedelta(seconds=alerts.END_SECONDS))
        for _ in range(2):
            await worker.alerts.check()
        assert summarize(told) == [("dead_letters", KEY, True)]
        assert await worker.alerts.list() == []

        await add_letters(9)
        await worker.alerts.check()
        assert summarize(told) == [("dead_letters", KEY, False)]


async def test_each_new_kind_of_dead_letters_is_told_once(worker, run, told):
    async with run():
        await add_letters(*range(5))
        await add_letters(1, error="KeyError")
        await add_letters(1, task=None, error="BadMessage")
        await add_letters(1, error="OldError", age=conditions.NEW.total_seconds() + 60)
        await add_letters(2, error="OldError")
        await worker.alerts.check()
        titles = {alert.title for alert in told}
    assert titles == {
        "order fails with ValueError",
        "order fails with KeyError",
        "A message that cannot be read fails with BadMessage",
    }


@pytest.mark.parametrize("age", [-366 * 86400, 86400])
async def test_a_wrong_clock_of_a_worker_hides_no_dead_letter(worker, run, told, age):
    async with run():
        await add_letters(1, age=age)
        before = datetime.now(UTC)
        await worker.alerts.check()
    (alert,) = told
    # The clock of MongoDB's server, which is the one of this test.
    assert abs(alert.started_at - before) < timedelta(minutes=5)


async def test_a_backlog_beyond_its_limits_is_told(worker, run, told, engine_settings):
    engine_settings.task_concurrency = 1
    engine_settings.task_backlog_limit = 2
    go = asyncio.Event()

    @worker.task
    async def wait() -> None:
        await go.wait()

    async with run():
        jobs = [await wait.enqueue() for _ in range(3)]

        async def is_late() -> bool:
            await worker.alerts.check()
            return bool(told)

        await eventually(is_late, WAIT)
        (alert,) = told
        assert (alert.kind, alert.title) == ("backlog", "The workers do not keep up")
        assert alert.text.startswith(
            "The workers do not keep up: 2 jobs pending, the oldest for 0 s. Start"
        )
        assert alert.url == get_settings().link_to("console")

        told.clear()
        jobs.append(await wait.enqueue())
        await move_back(HOUR)
        await worker.alerts.check()
        (alert,) = told
        assert alert.text.startswith("The workers do not keep up: 3 jobs pending")

        told.clear()
        go.set()
        for job in jobs:
            await job.result(WAIT)
        await move_back(timedelta(seconds=alerts.END_SECONDS))
        await worker.alerts.check()
        assert [(alert.kind, alert.ended) for alert in told] == [("backlog", True)]


async def test_a_schedule_whose_run_failed_is_told(worker, run, told):
    broken = True

    @worker.every(hours=1)
    @worker.task(max_retries=0)
    async def clean() -> None:
        if broken:
            raise PermanentError("no space")

    async def has_ended(status: str) -> bool:
        state = await ScheduleModel.get("clean")
        return state is not None and state.last_status == status

    async with run():
        job = await worker.schedules.run_now("clean")
        await eventually(lambda: has_ended("failed"), WAIT)
        await worker.alerts.check()
        failed = [alert for alert in told if alert.kind == "schedule"]
        assert [alert.title for alert in failed] == ["Schedule clean: its last run failed"]
        assert failed[0].text == f"Job {job} failed for good."
        assert failed[0].url == get_settings().link_to("console/schedules")

        broken = False
        told.clear()
        await worker.schedules.run_now("clean")
        await eventually(lambda: has_ended("completed"), WAIT)
        await move_back(timedelta(seconds=alerts.END_SECONDS), kind="schedule")
        await worker.alerts.check()
        assert ("schedule", "clean", True) in summarize(told)


async def test_a_schedule_that_missed_its_time_is_told(worker, run, told):
    @worker.every(hours=1, misfire_grace=10)
    async def clean() -> None: ...

    @worker.every(hours=1, id="of-another-version")
    async def other() -> None: ...

    @worker.every(hours=1, enabled=False)
    async def disabled() -> None: ...

    missed = datetime.now(UTC).replace(microsecond=0) - timedelta(minutes=10)
    async with run():
        states = ScheduleModel.get_pymongo_collection()

        async def are_registered() -> bool:
            return await states.count_documents({}) == 3

        await eventually(are_registered, WAIT)
        await states.update_one({"_id": "of-another-version"}, {"$set": {"definition": "x"}})
        await states.update_many({}, {"$set": {"next_run": missed}})
        await states.insert_one({"_id": "removed", "enabled": True, "next_run": missed})

        async def was_missed() -> bool:
            state = await states.find_one({"_id": "clean"})
            return state is not None and state.get("missed_run") is not None

        await eventually(was_missed, WAIT)
        await worker.alerts.check()
        texts = {alert.key: alert.text for alert in told}
        text = f"No worker ran it at {missed:%Y-%m-%d %H:%M} UTC."
        assert texts == {"clean": text, "of-another-version": text}
        assert told[0].title.endswith(": it missed its time")

        told.clear()
        due = datetime.now(UTC) - timedelta(seconds=1)
        await states.update_many({"next_run": {"$ne": None}}, {"$set": {"next_run": due}})

        async def has_run() -> bool:
            state = await states.find_one({"_id": "clean"})
            return state is not None and state.get("missed_run", "") is None

        await eventually(has_run, WAIT)
        await move_back(timedelta(seconds=alerts.END_SECONDS))
        await worker.alerts.check()
        keys = ["clean", "of-another-version"]
        assert sorted(summarize(told)) == [("schedule", key, True) for key in keys]


async def test_no_worker_alive_is_told_and_ends(worker, engine_settings, told, monkeypatch):
    """A web process sends the alert, but none about late schedules, which no worker could fire."""
    late = datetime.now(UTC) - timedelta(hours=1)

    @worker.every(hours=1)
    async def clean() -> None: ...

    async with open_service(Service([], [], worker), engine_settings):
        try:
            if worker.queue.engine.in_process:  # this process runs jobs itself
                await worker.alerts.check()
                assert summarize(told) == []
                return
            await worker.schedules.register()
            ended = {"_id": "ended", "expires_at": datetime.now(UTC)}
            await WorkerModel.model_validate(WORKER | ended).insert()
            await worker.alerts.check()
            assert told == []  # it may be a restart
            states = ScheduleModel.get_pymongo_collection()
            await states.update_many({}, {"$set": {"next_run": late}})
            monkeypatch.setattr(conditions, "MISSING_SECONDS", 0)
            await worker.alerts.check()
            (alert,) = told
            assert alert.title == "No worker is alive"
            assert alert.url == get_settings().link_to("console/workers")

            told.clear()
            await move_back(HOUR, kind="no_worker")
            await worker.alerts.check()
            assert summarize(told) == [("no_worker", "workers", False)]  # its text is the same

            async with consuming(worker):
                await eventually(worker.workers, WAIT)
                await move_back(timedelta(seconds=alerts.END_SECONDS))
                await worker.alerts.check()
                assert ("no_worker", "workers", True) in summarize(told)
        finally:
            await empty(engine_settings)


@pytest.mark.parametrize("missing", ["task", "error_type", "error", "died_at"])
async def test_a_dead_letter_that_cannot_be_read_hides_no_other(worker, run, told, missing):
    async with run():
        await add_letters(1)
        await add_letters(2, error="KeyError")
        letters = DeadLetterModel.get_pymongo_collection()
        await letters.update_one({"error_type": "KeyError"}, {"$unset": {missing: True}})
        await worker.alerts.check()
        for error in (None, "KeyError"):
            await worker.dead_letters.groups(error=error)
    assert KEY in {alert.key for alert in told}


async def test_one_process_makes_the_check_of_all(worker, run, engine_settings):
    calls = []

    async def find() -> conditions.Found:
        calls.append(1)
        return []

    async def move(by: timedelta) -> None:
        checked_at = datetime.now(UTC) + by
        checks = AlertCheckModel.get_pymongo_collection()
        await checks.update_one({}, {"$set": {"checked_at": checked_at}})

    async with run():
        found = {conditions.NO_WORKER: find}
        processes = [Alerts(engine_settings, found, []) for _ in range(8)]

        async def check() -> int:
            calls.clear()
            await asyncio.gather(*(process._check_in_turn() for process in processes))
            return len(calls)

        await AlertCheckModel.delete_all()
        assert await check() == 1
        assert await check() == 0
        await move(timedelta(seconds=-alerts.CHECK_SECONDS))
        assert await check() == 1
        await move(HOUR)  # MongoDB's clock was wrong
        assert await check() == 1

        async def fail() -> conditions.Found:
            raise ConnectionError("down")

        alone = Alerts(engine_settings, {conditions.NO_WORKER: fail}, [])
        await AlertCheckModel.delete_all()
        with pytest.raises(ConnectionError):
            await alone._check_in_turn()
        assert await check() == 1


async def test_a_flood_of_dead_letters_hides_no_other_kind(worker, run, told):
    """The console groups only the newest dead letters. This must not end an alert."""
    async with run():
        await add_letters(1, error="KeyError", age=60)
        letter = await DeadLetterModel.find_one()
        assert letter
        flood = letter.model_dump(exclude={"id"}) | {"died_at": datetime.now(UTC)}
        flood["error_type"] = "ValueError"
        letters = DeadLetterModel.get_pymongo_collection()
        await letters.insert_many({**flood, "_id": str(number)} for number in range(MAX_GROUPED))
        await worker.alerts.check()
    assert {alert.key for alert in told} == {KEY, "order KeyError"}


async def test_several_processes_note_an_alert_at_once(worker, run, engine_settings):
    async with run():
        processes = [Alerts(engine_settings, {}, []) for _ in range(8)]
        for number in range(50):
            notes = [each._note("backlog", str(number), "late", "text") for each in processes]
            await asyncio.gather(*notes)
        assert len(await worker.alerts.list()) == 50


async def test_several_processes_tell_an_alert_once(worker, run, engine_settings):
    told: list[Alert] = []

    async def note(alert: Alert) -> None:
        await asyncio.sleep(0.05)
        told.append(alert)

    async with run():
        found = worker.alerts._conditions
        processes = [Alerts(engine_settings, found, [note]) for _ in range(8)]
        await add_letters(1)
        await add_letters(1, error="KeyError")
        for by in (timedelta(0), HOUR, timedelta(seconds=alerts.END_SECONDS)):
            if by == HOUR:
                await add_letters(2)
                await add_letters(2, error="KeyError")
            elif by:
                await worker.dead_letters.discard_many()
            await move_back(by)
            told.clear()
            await asyncio.gather(*(process.check() for process in processes))
            assert sorted(alert.key for alert in told) == ["order KeyError", KEY]


async def test_an_alert_that_a_killed_process_has_claimed_is_told(worker, run, told):
    async with run():
        await add_letters(1)
        await worker.alerts.check()
        told.clear()
        claim = {"told_at": None, "told_text": None, "untold": [*worker.alerts._hooks]}
        later = datetime.now(UTC) + timedelta(minutes=1)
        stored = AlertModel.get_pymongo_collection()
        await stored.update_many({}, {"$set": {**claim, "claimed_until": later}})
        await worker.alerts.check()
        assert told == []
        await move_back(timedelta(minutes=2))
        await worker.alerts.check()
        assert summarize(told) == [("dead_letters", KEY, False)]


async def test_a_hook_that_fails_is_called_again_alone(worker, run, told, caplog, monkeypatch):
    monkeypatch.setattr(failures, "_failing", set())
    calls, is_down = [], True

    @worker.on_alert
    def page(alert: Alert) -> None:
        calls.append(alert)
        if is_down:
            raise ConnectionError("the pager is down")

    async with run():
        await add_letters(1)
        for _ in range(3):
            await worker.alerts.check()
            await free_claims()
        (stored,) = await AlertModel.find_all().to_list()
        assert stored.told_at is None
        assert len(stored.untold) == 1
        assert len({alert.id for alert in calls}) == 1
        assert len(calls) == 3
        assert len(told) == 1
        assert caplog.text.count("the pager is down") <= 3  # one line, with its traceback
        lines = [each for each in caplog.messages if "hook failed" in each]
        assert len(lines) == 1
        assert "page" in lines[0]

        # The alert ends while the hook still fails, so the hook gets the end only.
        await worker.dead_letters.discard_many()
        await move_back(timedelta(seconds=alerts.END_SECONDS))
        await worker.alerts.check()
        is_down = False
        calls.clear()
        await free_claims()
        for _ in range(2):
            await worker.alerts.check()
        assert [alert.ended for alert in calls] == [True]
        assert [alert.ended for alert in told] == [False, True]


async def test_a_check_ends_although_a_hook_fails_for_longer_than_the_pause(
    worker, run, told, monkeypatch
):
    monkeypatch.setattr(alerts, "RETRY_SECONDS", 0)

    @worker.on_alert
    async def page(alert: Alert) -> None:
        raise ConnectionError("the pager is down")

    async with run():
        await add_letters(1)
        await add_letters(2, error="KeyError")
        async with asyncio.timeout(WAIT):
            await worker.alerts.check()
        assert len(told) == 2


async def test_an_end_during_a_slow_hook_is_told(worker, run, engine_settings):
    told, go = [], asyncio.Event()

    async def note(alert: Alert) -> None:
        told.append(alert.ended)
        if not alert.ended:
            await go.wait()

    async with run():
        one, two = (Alerts(engine_settings, worker.alerts._conditions, [note]) for _ in range(2))
        await add_letters(1)
        checking = asyncio.create_task(one.check())
        await eventually(lambda: told, WAIT)
        await worker.dead_letters.discard_many()
        long_ago = datetime.now(UTC) - timedelta(seconds=alerts.END_SECONDS)
        stored = AlertModel.get_pymongo_collection()
        await stored.update_many({}, {"$set": {"seen_at": long_ago}})  # the claim stays
        await two.check()
        go.set()
        await checking
        await two.check()
    assert told == [False, True]


async def test_an_outage_ends_no_alert(worker, run, told, monkeypatch):
    async with run():
        await add_letters(1)
        await worker.alerts.check()
        told.clear()
        with monkeypatch.context() as patch:

            async def fail(*_: object) -> None:
                raise ConnectionError("down")

            broken = {**worker.alerts._conditions, "dead_letters": fail}
            patch.setattr(worker.alerts, "_conditions", broken)
            await move_back(timedelta(seconds=alerts.END_SECONDS))
            with pytest.raises(ConnectionError):
                await worker.alerts.check()
        await worker.alerts.check()
        assert len(await worker.alerts.list()) == 1
    assert told == []


async def test_a_restart_of_mongodb_loses_no_alert(
    worker, engine_settings, mongod, told, caplog, monkeypatch
):
    monkeypatch.setattr(alerts, "CHECK_SECONDS", 0.2)
    start, stop = mongod
    async with running(worker, engine_settings):
        await add_letters(1)
        await eventually(lambda: told, WAIT)
        await asyncio.to_thread(stop)
        await eventually(lambda: "alerts wait for a server" in caplog.text, WAIT)
        await asyncio.to_thread(start)
        await add_letters(1, error="KeyError")
        await eventually(lambda: len(told) == 2, WAIT)
        (first, second) = summarize(told)
        assert (first[1], second[1]) == (KEY, "order KeyError")
        assert len(await worker.alerts.list()) == 2


async def test_a_worker_and_a_web_process_check_by_themselves(worker, run, told, monkeypatch):
    monkeypatch.setattr(alerts, "CHECK_SECONDS", 0.1)
    async with run():
        await add_letters(1)
        await eventually(lambda: told, WAIT)


@pytest.fixture
async def admins(settings, mailbox) -> list[str]:
    return ["ada@example.com", "grace@example.com"]


async def add_users(emails: list[str]) -> None:
    await UserModel(email="eve@example.com", display_name="Eve").insert()
    for email in emails:
        await UserModel(email=email, display_name="Admin", is_admin=True).insert()


async def test_administrators_get_a_mail(worker, run, engine_settings, admins, mailbox):
    engine_settings.alert_mail = True
    async with run():
        await add_users(admins)
        await add_letters(1, error="<b>Error")
        await worker.alerts.check()
        mails = mailbox.messages
        assert sorted(mail["To"] for mail in mails) == admins
        service = get_settings().service_name
        assert mails[0]["Subject"] == f"[{service}] order fails with <b>Error"
        text = mails[0].get_body(("plain",)).get_content()
        assert "1 dead letter, the latest one: <b>Error: no order 1" in text
        link = get_settings().link_to("console/failures")
        assert link in text
        html = mails[0].get_body(("html",)).get_content()
        assert f'href="{link}"' in html
        assert "&lt;b&gt;Error: no order 1" in html

        mailbox.clear()
        await worker.dead_letters.discard_many()
        await move_back(timedelta(seconds=alerts.END_SECONDS))
        await worker.alerts.check()
        subjects = [mail["Subject"] for mail in mailbox.messages]
        assert subjects == [f"[{service}] Ended: order fails with <b>Error"] * 2
        text = mailbox.messages[0].get_body(("plain",)).get_content()
        assert "This alert has ended. Its message was:" in text


async def test_without_the_console_an_alert_has_no_link(
    worker, run, engine_settings, admins, mailbox, told
):
    engine_settings.alert_mail = True
    engine_settings.console_enabled = False
    async with run():
        await add_users(admins)
        await add_letters(1)
        await worker.alerts.check()
    assert told[0].url == ""
    for part in mailbox.messages[0].iter_parts():
        assert "Since" in part.get_content()
        assert "console" not in part.get_content()


async def test_a_mail_waits_for_its_server_and_for_an_administrator(
    worker, run, engine_settings, admins, mailbox, monkeypatch, caplog
):
    monkeypatch.setattr(failures, "_failing", set())
    engine_settings.alert_mail = True
    async with run():
        await add_letters(1)
        await worker.alerts.check()
        assert (
            "no administrator exists, so nobody got the alert; run `just admin EMAIL`"
            in caplog.text
        )
        await add_users(admins)
        smtp_url = get_settings().smtp_url
        monkeypatch.setattr(get_settings(), "smtp_url", HttpUrl("http://127.0.0.1:1"))
        await free_claims()
        await worker.alerts.check()
        (stored,) = await AlertModel.find_all().to_list()
        assert stored.told_at is None
        monkeypatch.setattr(get_settings(), "smtp_url", smtp_url)
        await free_claims()
        for _ in range(2):
            await worker.alerts.check()
        assert len(mailbox.messages) == 2


class Receiver(ThreadingHTTPServer):
    """A receiver of webhooks. It answers with `status`."""

    def __init__(self) -> None:
        self.status = 204
        self.received: list[tuple[dict[str, str], bytes]] = []
        super().__init__(("127.0.0.1", 0), Handler)


class Handler(BaseHTTPRequestHandler):
    server: Receiver

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["content-length"]))
        headers = {name.lower(): value for name, value in self.headers.items()}
        self.server.received.append((headers, body))
        self.send_response(self.server.status)
        self.end_headers()

    def log_message(self, *_: object) -> None: ...


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    server = Receiver()
    thread = Thread(target=server.serve_forever)
    thread.start()
    yield server
    server.shutdown()
    server.server_close()
    thread.join()


async def test_a_webhook_is_signed_and_repeated_until_it_succeeds(
    worker, run, engine_settings, receiver
):
    secret = new_webhook_secret()
    engine_settings.alert_webhook_url = HttpUrl(f"http://127.0.0.1:{receiver.server_port}/hook")
    engine_settings.alert_webhook_secret = SecretStr(secret)
    async with run():
        await add_letters(1)
        for status in (500, 302, 204):
            receiver.status = status
            await worker.alerts.check()
            await free_claims()
        await worker.alerts.check()
        await worker.dead_letters.discard_many()
        await move_back(timedelta(seconds=alerts.END_SECONDS))
        await worker.alerts.check()
    for headers, body in receiver.received:
        Webhook(secret).verify(body, headers)
    events = [json.loads(body) for _, body in receiver.received]
    assert [event["type"] for event in events] == ["alert.raised"] * 3 + ["alert.ended"]
    ids = [headers["webhook-id"] for headers, _ in receiver.received]
    assert ids[0] == ids[1] == ids[2] != ids[3]
    data = events[0]["data"]
    assert (data["kind"], data["key"], data["ended"]) == ("dead_letters", KEY, False)
    assert data["url"].endswith("/console/failures")

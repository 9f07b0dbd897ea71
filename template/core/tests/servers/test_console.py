"""The console: who may do what, and that foreign text harms nobody."""

import re
from datetime import UTC, datetime, timedelta
from html import escape
from urllib.parse import quote
from uuid import uuid4

import pytest
from fastapi import FastAPI
from fastapi.routing import iter_route_contexts
from starlette.routing import Match

from core.models import AuditModel, DeadLetterModel, DeadLetterState
from core.tasks import Worker
from core.testing import eventually
from core.tests import service
from core.tests.servers.browsers import SAME_ORIGIN
from core.web.console import actions, choice, pages
from core.web.console.actions import ACTIONS
from core.web.console_port import is_console

EVIL = "<script>alert(1)</script>\u202e"
LOOK = {"stranger": 303, "user": 403, "viewer": 200, "admin": 200}
ACT = {"stranger": 303, "user": 403, "viewer": 403, "admin": 303}

TABLE = {
    "GET ": LOOK,
    "GET /failures": LOOK,
    "GET /failures/LETTER": LOOK,
    "POST /failures/LETTER/arguments": LOOK,
    "GET /failures/confirm?action=replay&id=LETTER": LOOK,
    "GET /failures/confirm?action=discard&all=1": LOOK,
    "POST /failures/replay id=LETTER": ACT,
    "POST /failures/discard id=LETTER": ACT,
    "GET /jobs": LOOK,
    "GET /jobs/JOB": LOOK,
    "GET /jobs/confirm?action=abort&id=JOB": LOOK,
    "POST /jobs/abort id=JOB": ACT,
    "GET /schedules?id=hourly": LOOK,
    "GET /schedules/confirm?action=run&id=hourly": LOOK,
    "POST /schedules/run id=hourly": ACT,
    "POST /schedules/enable id=hourly": ACT,
    "POST /schedules/disable id=hourly": ACT,
    "GET /workers": LOOK,
    "GET /tasks": LOOK,
    "GET /audit": LOOK,
}
"""The status of each page and action for each role."""

LOG_IN = {"/console/login", "/console/logout"}
"""Routes of the log-in page, which has its own tests."""


async def bury(count: int = 1, **fields: object) -> list[DeadLetterModel]:
    """Store dead letters whose messages cannot be replayed."""
    now = datetime.now(UTC)
    letters = [
        DeadLetterModel(
            **{
                "id": uuid4().hex,
                "job_id": uuid4().hex,
                "task": "ship",
                "error_type": "ValueError",
                "error": "no such order",
                "attempts": 1,
                "died_at": now - timedelta(minutes=number),
                **fields,
            }
        )
        for number in range(1, count + 1)
    ]
    await DeadLetterModel.insert_many(letters)
    return letters


async def fail(worker: Worker, order: str = "7") -> DeadLetterModel:
    """Let a job fail for good, and return its dead letter."""

    @worker.task(name="lose", max_retries=0)
    async def lose(order: str) -> None:
        raise ValueError(f"no such order {order}")

    worker.tasks.pop("lose", None)
    task = worker.task(name="lose", max_retries=0)(lose.function)
    job = await task.enqueue(order)
    await job.wait(10)
    found = await eventually(lambda: DeadLetterModel.find({"job_id": job.id}).to_list())
    return found[0]


def find_routes(app: FastAPI) -> set[tuple[str, str]]:
    found = set()
    for route in iter_route_contexts(app.routes):
        path = route.path or ""
        if is_console(path) and path not in LOG_IN:
            found |= {(method, path) for method in route.methods or ()}
    return found


def test_the_table_has_every_route_and_every_action(app):
    seen = set()
    for row in TABLE:
        method, url = row.split(" ")[:2]
        scope = {"type": "http", "method": method, "path": "/console" + url.partition("?")[0]}
        routes = iter_route_contexts(app.routes)
        matching = (each for each in routes if each.matches(scope)[0] is Match.FULL)
        seen.add((method, next(matching).path))
    assert find_routes(app) == seen
    for things, action in ACTIONS:
        assert any(row.startswith(f"POST /{things}/{action} ") for row in TABLE)


@pytest.mark.parametrize("role", LOOK)
@pytest.mark.parametrize("row", TABLE)
async def test_each_page_and_action_answers_each_role(browsers, app_worker, row, role):
    (letter,) = await bury()
    job = await service.ship.using(delay=1000).enqueue("7")
    method, url, *fields = row.replace("LETTER", letter.id).replace("JOB", job.id).split(" ")
    form = {"data": dict(field.split("=") for field in fields)} if method == "POST" else {}
    response = await browsers[role].request(method, f"/console{url}", headers=SAME_ORIGIN, **form)
    status = TABLE[row][role]
    assert response.status_code == status
    assert response.headers["cache-control"] == "no-store"
    assert "default-src 'none'" in response.headers["content-security-policy"]
    assert response.headers.get("location", "").startswith("/console/login") is (role == "stranger")
    await letter.sync()
    (view,) = await app_worker.schedules.list()
    changed = {
        "discard": letter.state == "discarded",
        "abort": await job.status() == "aborted",
        "run": view.last_run is not None,
        "disable": not view.enabled,
    }
    may_act = TABLE[row] is ACT and role == "admin"
    action = url.rpartition("/")[2]
    assert [name for name, is_done in changed.items() if is_done] == (
        [action] if may_act and action in changed else []
    )
    is_noted = method == "POST" and status < 400 and role != "stranger"
    assert await AuditModel.find_all().count() == is_noted


async def test_a_stranger_comes_back_after_the_log_in(browsers):
    stranger = browsers["stranger"]
    response = await stranger.get("/console/failures?task=a%26b&since=1h")
    expected = "/console/login?next=%2Fconsole%2Ffailures%3Ftask%3Da%2526b%26since%3D1h"
    assert response.headers["location"] == expected
    response = await stranger.submit("/console/failures/discard", id="1")
    assert response.headers["location"] == "/console/login?next=%2Fconsole"
    response = await stranger.get("/console/failures", headers={"HX-Request": "true"})
    assert (response.status_code, response.headers["hx-refresh"]) == (401, "true")


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"Sec-Fetch-Site": "same-origin"}, 303),
        ({"Origin": "http://test"}, 303),
        ({"Sec-Fetch-Site": "none"}, 403),
        ({"Sec-Fetch-Site": "same-site"}, 403),
        ({"Sec-Fetch-Site": "cross-site", "Origin": "http://test"}, 403),
        ({"Origin": "http://test.evil.example"}, 403),
        ({"Origin": "null"}, 403),
        ({}, 403),
    ],
)
async def test_only_a_page_of_this_host_may_act(admin, headers, status):
    (letter,) = await bury()
    response = await admin.post(
        "/console/failures/discard", data={"id": letter.id}, headers=headers
    )
    assert response.status_code == status
    await letter.sync()
    assert (letter.state == "discarded") is (status == 303)


async def test_the_pages_load_nothing_from_elsewhere_and_have_no_inline_code(admin):
    (letter,) = await bury()
    for row in TABLE:
        method, url, *_ = row.replace("LETTER", letter.id).split(" ")
        if method == "POST" or "JOB" in url:
            continue
        page = await admin.get(f"/console{url}")
        assert not re.search(r"<style|style=|\son\w+=|<script(?! src=\"/core-static/)", page.text)
        assert not re.search(r"(?:src|action|href)=\"(?!/console|/core-static/|#main)", page.text)
        assert '"allowEval":false,"includeIndicatorStyles":false' in page.text
        policy = page.headers["content-security-policy"]
        assert "unsafe" not in policy
        assert policy.count("'self'") == 5
    for name in ("console.css", "console.js", "htmx.js.gz", "icon.svg"):
        file = await admin.get(f"/core-static/{name}")
        assert file.status_code == 200
        assert (
            not re.search(r"url\(|@import|https?://(?!www.w3.org/2000/svg)", file.text)
            or "htmx" in name
        )


async def test_foreign_text_is_escaped_and_short(admin, app_worker):
    evil = EVIL * 2000
    (letter,) = await bury(
        task=evil,
        error_type=evil,
        error=evil,
        traceback=evil,
        owner=evil,
        correlation_id='" onclick="x" //evil.example',
        arguments=f'{{"a": "{EVIL}"}}',
        traceparent=evil,
    )
    shown = [
        await admin.get("/console/failures", params={"task": evil[:300], "error": EVIL}),
        await admin.get("/console/failures"),
        await admin.get(f"/console/failures/{letter.id}"),
        await admin.submit(f"/console/failures/{letter.id}/arguments"),
        await admin.get("/console/failures/confirm", params={"id": letter.id, "action": "replay"}),
        await admin.get("/console/schedules", params={"find": EVIL, "id": EVIL}),
        await admin.get("/console/audit", params={"action": EVIL, "actor": EVIL}),
        await admin.get(f"/console/failures/{EVIL.replace('/', '')}"),
    ]
    for page in shown:
        assert page.status_code in (200, 404)
        assert "<script>" not in page.text
        assert 'onclick="x"' not in page.text
        assert len(page.text) < 100_000
        assert not re.search(r'href="(?!/console|/core-static|#main)', page.text)
    assert escape("<script>alert(1)</script>") in shown[2].text


async def test_a_link_cannot_make_the_console_say_anything(admin, browsers):
    (letter,) = await bury()
    response = await admin.submit("/console/failures/discard", id=letter.id)
    location = response.headers["location"]
    assert "1 dead letter discarded." in (await admin.get(location)).text
    assert "1 dead letter discarded" not in (await browsers["viewer"].get(location)).text
    page = await admin.get("/console/failures", params={"said": "You are hacked"})
    assert "hacked" not in page.text


async def test_arguments_are_hidden_until_somebody_asks(admin, browsers):
    (letter,) = await bury(
        arguments='{"order": "secret order", "token": "gAAAA"}',
        sensitive=["token"],
    )
    path = f"/console/failures/{letter.id}"
    assert "secret order" not in (await admin.get(path)).text
    page = await browsers["viewer"].submit(f"{path}/arguments")
    assert "secret order" in page.text
    assert "gAAAA" not in page.text
    assert "***" in page.text
    (entry,) = await AuditModel.find_all().to_list()
    assert (entry.action, entry.details["dead_letter"]) == ("arguments.shown", letter.id)
    assert entry.actor
    assert entry.correlation_id == page.headers["x-request-id"]


async def test_a_dead_letter_is_replayed(admin, app_worker):
    letter = await fail(app_worker)
    response = await admin.submit("/console/failures/replay", id=letter.id)
    page = await admin.get(response.headers["location"])
    assert "1 dead letter replayed." in page.text
    assert "replayed" in page.text
    assert (await app_worker.job(letter.id).wait(10)).status == "failed"
    again = await admin.submit("/console/failures/replay", id=letter.id)
    page = await admin.get(again.headers["location"])
    assert "0 dead letters replayed. 1 did not change" in page.text
    entries = await AuditModel.find({"action": "dead_letter.replayed"}).to_list()
    assert [entry.details["changed"] for entry in entries] == [1, 0]
    await admin.submit("/console/failures/discard", id=letter.id)
    await letter.sync()
    assert letter.state == DeadLetterState.REPLAYED


async def test_a_selection_is_confirmed_and_decided(admin):
    letters = await bury(4)
    chosen = [letter.id for letter in letters[:3]]
    page = await admin.get("/console/failures/confirm", params={"id": chosen, "action": "discard"})
    assert "Discard 3 dead letters?" in page.text
    assert letters[3].id not in page.text
    await letters[0].set({"state": "replayed"})
    response = await admin.submit("/console/failures/discard", id=chosen)
    page = await admin.get(response.headers["location"])
    assert "2 dead letters discarded. 1 did not change" in page.text
    states = [letter.state for letter in await DeadLetterModel.find_all().to_list()]
    assert sorted(states) == ["dead", "discarded", "discarded", "replayed"]


async def test_one_dead_letter_is_discarded_only_after_a_question(admin):
    (letter,) = await bury()
    page = await admin.get(f"/console/failures/{letter.id}")
    forms = re.findall(r'<form method="(\w+)" action="/console/failures/(\w+)">', page.text)
    assert forms == [("post", "replay"), ("get", "confirm")]
    confirm = {"id": letter.id, "action": "discard"}
    page = await admin.get("/console/failures/confirm", params=confirm)
    assert "Discard 1 dead letter?" in page.text
    assert "The job is given up for good." in page.text
    assert f'href="/console/failures/{letter.id}">Cancel' in page.text
    await letter.set({"state": "replayed"})
    page = await admin.get("/console/failures/confirm", params=confirm)
    assert "Nothing to discard." in page.text
    assert f'href="/console/failures/{letter.id}">Back' in page.text
    page = await admin.get("/console/failures/confirm", params=confirm | {"id": "../../logout"})
    assert 'href="/console/failures/..%2F..%2Flogout">Back' in page.text


async def test_all_that_match_are_those_of_the_confirmation(admin, monkeypatch):
    monkeypatch.setattr(choice, "BULK", 2)
    monkeypatch.setattr(actions, "BULK", 2)
    letters = await bury(3)
    await bury(task="other")
    page = await admin.get(
        "/console/failures/confirm", params={"all": 1, "task": "ship", "action": "discard"}
    )
    assert "Discard 2 dead letters?" in page.text
    assert "One action changes at most 2" in page.text
    (late,) = await bury(died_at=datetime.now(UTC))
    ids = re.findall(r'<input type="hidden" name="id" value="([^"]+)"', page.text)
    assert set(ids) == {letter.id for letter in letters[:2]}
    response = await admin.submit("/console/failures/discard", id=ids, task="ship")
    assert response.headers["location"].startswith("/console/failures?task=ship&said=")
    page = await admin.get(response.headers["location"])
    assert "2 dead letters discarded." in page.text
    left = await DeadLetterModel.find({"state": "dead"}).to_list()
    assert {letter.task for letter in left} == {"other", "ship"}
    assert late.id in {letter.id for letter in left}
    nothing = await admin.submit("/console/failures/discard", all=1)
    assert "0 dead letters discarded" in (await admin.get(nothing.headers["location"])).text
    assert len(left) == await DeadLetterModel.find({"state": "dead"}).count()


async def test_two_thousand_dead_letters_are_discarded_at_once(admin):
    letters = await bury(2001)
    page = await admin.get("/console/failures/confirm", params={"all": 1, "action": "discard"})
    assert "Discard 2,000 dead letters?" in page.text
    ids = re.findall(r'<input type="hidden" name="id" value="([^"]+)"', page.text)
    response = await admin.submit("/console/failures/discard", id=ids)
    page = await admin.get(response.headers["location"])
    assert "2,000 dead letters discarded." in page.text
    (left,) = await DeadLetterModel.find({"state": "dead"}).to_list()
    assert left.id == letters[-1].id


async def test_a_bulk_discard_needs_a_new_log_in(admin, monkeypatch):
    letters = await bury(2)
    ids = [letter.id for letter in letters]
    old = datetime.now(UTC) - timedelta(minutes=11)
    monkeypatch.setattr("core.web.console.page.session_started", _return(old))
    path = "/console/failures/confirm"
    for response in (
        await admin.get(path, params={"id": ids, "action": "discard"}),
        await admin.submit("/console/failures/discard", id=ids),
    ):
        assert response.status_code == 303
        location = response.headers["location"]
        assert location.startswith("/console/login?next=%2Fconsole%2Ffailures")
        page = await admin.get(location)
        assert "enter your password again" in page.text
        assert "Continue" not in page.text
    assert await DeadLetterModel.find({"state": "dead"}).count() == 2
    replay = await admin.get(path, params={"id": ids, "action": "replay"})
    assert replay.status_code == 200
    one = await admin.submit("/console/failures/discard", id=ids[0])
    assert one.headers["location"].startswith(f"/console/failures/{ids[0]}?")


def _return(value: object):
    async def answer(*_: object) -> object:
        return value

    return answer


async def test_dead_letters_are_grouped(admin):
    await bury(3)
    await bury(2, error_type="KeyError")
    page = await admin.get("/console/failures")
    rows = re.findall(r'data-th="Count" class="num">(\d+)<', page.text)
    assert sorted(rows) == ["2", "3"]
    assert "5 dead" in page.text
    filtered = await admin.get("/console/failures", params={"error": "KeyError", "since": "1h"})
    assert "2 dead" in filtered.text
    empty = await admin.get("/console/failures", params={"state": "discarded"})
    assert "No discarded dead letters match." in empty.text


async def test_older_dead_letters_are_on_the_next_page(admin, monkeypatch):
    monkeypatch.setattr(pages, "ROWS", 2)
    letters = await bury(5)
    shown: list[str] = []
    url = "/console/failures"
    while url:
        page = await admin.get(url)
        shown += [letter.id for letter in letters if letter.id in page.text]
        found = re.search(r'rel="next" href="([^"]+)"', page.text)
        url = found[1].replace("&amp;", "&") if found else ""
    assert set(shown) == {letter.id for letter in letters}


async def test_the_audit_log_names_people_by_their_addresses(admin, user):
    await AuditModel(action="test.done", actor=str(user.id), subject="unknown").insert()
    for actor in (user.email.upper(), str(user.id)):
        page = (await admin.get("/console/audit", params={"actor": actor})).text
        assert f'<span title="{user.id}">{user.email}</span>' in page
        assert ">unknown</a>" in page
    page = (await admin.get("/console/audit", params={"actor": "eve@example.com"})).text
    assert "No entries match." in page


async def test_a_dead_letter_that_cannot_be_read_is_counted(admin):
    broken = {"_id": "1", "task": "ship", "error_type": "Lost", "died_at": datetime.now(UTC)}
    await DeadLetterModel.get_pymongo_collection().insert_one({**broken, "state": "dead"})
    await admin.get("/console/failures")
    page = (await admin.get("/console/failures?state=unreadable")).text
    assert "0 of 1 shown" in page
    assert "whose document cannot be read is not listed" in page


async def test_schedules_are_run_enabled_and_disabled(admin, app_worker):
    page = await admin.get("/console/schedules")
    assert "hourly" in page.text
    response = await admin.submit("/console/schedules/disable", id="hourly")
    assert "1 schedule disabled." in (await admin.get(response.headers["location"])).text
    (view,) = await app_worker.schedules.list()
    assert not view.enabled
    response = await admin.submit("/console/schedules/run", id=["hourly", "gone"])
    page = await admin.get(response.headers["location"])
    assert "1 schedule started. Not possible: there is no schedule gone" in page.text
    (view,) = await app_worker.schedules.list()
    await app_worker.job(view.last_job).wait(10)
    await admin.submit("/console/schedules/enable", id="hourly")
    (view,) = await app_worker.schedules.list()
    assert view.enabled
    page = await admin.get("/console/schedules/confirm", params={"all": 1, "action": "run"})
    assert "Run 1 schedule?" in page.text
    entries = await AuditModel.find_all().sort("_id").to_list()
    assert [entry.action for entry in entries] == [
        "schedule.disabled",
        "schedule.started",
        "schedule.enabled",
    ]
    runs = await eventually(lambda: app_worker.history.list(schedule="hourly"))
    page = await admin.get("/console/schedules", params={"id": "hourly"})
    assert runs[0].job_id in page.text


@pytest.mark.parametrize("letter_id", ["../../x?y#z", "a/b", "%2e"])
async def test_an_id_of_a_form_leads_to_no_other_page(admin, letter_id):
    response = await admin.submit("/console/failures/discard", id=letter_id)
    path, _, query = response.headers["location"].partition("?")
    assert path == f"/console/failures/{quote(letter_id, safe='')}"
    assert query.startswith("said=")


@pytest.mark.parametrize(
    "path",
    [
        "failures?state=none",
        "failures?since=1y",
        "failures?until=yesterday",
        "failures?until=0001-01-01T00:00:00%2B14:00",
        "audit?until=9999-12-31T23:59:59-14:00",
        "jobs?state=lost",
        "schedules?all=perhaps",
        f"failures?task={'x' * 301}",
    ],
)
async def test_a_wrong_address_is_answered_with_one_sentence(admin, path):
    response = await admin.get(f"/console/{path}")
    assert response.status_code == 422
    assert "a value that is not valid" in response.text
    assert response.headers["content-type"].startswith("text/html")

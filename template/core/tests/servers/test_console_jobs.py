"""The pages of the console about jobs, workers and tasks."""

import asyncio
import re
from datetime import UTC, datetime, timedelta

import pytest

from core.commands.dead_letters import LETTER_COLUMNS
from core.commands.jobs import JOB_COLUMNS, TIMELINE_COLUMNS
from core.context import TaskContext
from core.models import AlertModel, AuditModel, MinuteModel
from core.tasks import Limit, TaskOptions, report_progress
from core.testing import eventually
from core.tests import service
from core.web.console import actions, choice, pages


async def test_a_job_is_found_by_its_id_and_by_its_correlation_id(admin, app_worker):
    with TaskContext.use(correlation_id="from-a-log-line"):
        job = await service.ship.enqueue("7")
    await job.wait(10)
    for text in (job.id, "from-a-log-line"):

        async def is_found(text: str = text) -> bool:
            page = await admin.get("/console/jobs", params={"find": text})
            return f"/console/jobs/{job.id}" in page.text

        await eventually(is_found)
    page = await admin.get("/console/jobs", params={"find": "something else"})
    assert "No job has this id." in page.text
    page = await admin.get(f"/console/jobs/{job.id}")
    assert "from-a-log-line" in page.text
    assert "completed" in page.text
    assert (await admin.get("/console/jobs/unknown")).status_code == 404


async def test_jobs_are_listed_by_state_and_filtered(admin, app_worker):
    jobs = [await service.ship.using(delay=1000 + number).enqueue("7") for number in range(3)]
    page = await admin.get("/console/jobs", params={"state": "scheduled"})
    assert all(job.id in page.text for job in jobs)
    for filters in ({"task": "other"}, {"owner": "nobody"}):
        page = await admin.get("/console/jobs", params={"state": "scheduled", **filters})
        assert "No scheduled jobs match." in page.text
    page = await admin.get("/console/jobs", params={"state": "pending"})
    assert "An empty list means that the workers keep up." in page.text


def read_headings(page: str) -> list[str]:
    found = re.findall(r'<th scope="col"[^>]*>([^<]+)</th>', page)
    return [heading.upper() for heading in found]


async def test_a_list_has_the_columns_of_the_command(admin, app_worker):
    """Columns without a value are left out, as in a terminal."""

    @app_worker.task(max_retries=0)
    async def lose() -> None:
        raise ValueError("nowhere to be found")

    with TaskContext.use(actor="grace"):
        job = await lose.enqueue()
    await job.wait(10)

    async def read() -> str:
        page = (await admin.get("/console/jobs?state=failed")).text
        return page if job.id in page else ""

    page = await eventually(read)
    expected = list(JOB_COLUMNS)
    expected[expected.index("SINCE")] = "ENDED"
    headings = read_headings(page)
    assert [each for each in headings if each != "DURATION"] == expected
    assert headings[-3:] == ["ENDED", "DURATION", "ERROR"]
    assert '<a href="/console/jobs?state=failed&amp;owner=grace">grace</a>' in page
    page = (await admin.get(f"/console/jobs/{job.id}")).text
    assert read_headings(page) == list(TIMELINE_COLUMNS)
    page = (await admin.get("/console/failures")).text
    letters = read_headings(page)[5:]
    assert [each for each in letters if each in LETTER_COLUMNS] == list(LETTER_COLUMNS)


def test_an_option_that_is_a_function_has_no_address():
    def make_key(order: str) -> str:
        return order

    limit = [Limit(2, key=make_key)]
    text = pages._describe(TaskOptions(max_retries=0, limit=limit))
    assert text == "max_retries=0, limit=[Limit(concurrency=2, key=...)]"


async def test_the_next_page_goes_on(admin, app_worker, monkeypatch):
    monkeypatch.setattr("core.web.console.pages.ROWS", 2)
    jobs = [await service.ship.using(delay=1000 + number).enqueue("7") for number in range(3)]
    page = await admin.get("/console/jobs", params={"state": "scheduled", "task": "ship"})
    assert jobs[2].id not in page.text
    link = re.search(r'rel="next" href="([^"]+)"', page.text)
    assert link
    page = await admin.get(link[1].replace("&amp;", "&"))
    assert jobs[2].id in page.text
    assert jobs[0].id not in page.text
    page = await admin.get("/console/jobs", params={"state": "failed", "after": "x"})
    assert page.status_code == 404
    assert "begin with the first page" in page.text


async def test_a_job_is_aborted_once(admin, app_worker):
    job = await service.ship.using(delay=1000).enqueue("7")
    page = await admin.act("/console/jobs/abort", id=job.id)
    assert "1 job aborted." in page
    done = await service.ship.enqueue("8")
    await done.wait(10)
    page = await admin.act("/console/jobs/abort", id=done.id)
    assert "0 jobs aborted. Not aborted: 1 completed." in page
    assert await done.status() == "completed"
    entries = await AuditModel.find({"action": "job.aborted"}).sort("_id").to_list()
    assert [entry.details["changed"] for entry in entries] == [1, 0]
    assert entries[0].details["ids"] == [job.id]


async def test_all_jobs_that_match_are_aborted(admin, app_worker, monkeypatch):
    jobs = [await service.ship.using(delay=1000).enqueue("7") for _ in range(5)]
    other = await service.tidy.using(delay=1000).enqueue()
    chosen = {"state": "scheduled", "task": "ship"}
    page = await admin.get("/console/jobs/confirm", params={**chosen, "all": 1, "action": "abort"})
    assert "Abort 5 jobs?" in page.text
    late = await service.ship.using(delay=1000).enqueue("late")
    ids = re.findall(r'name="id" value="([^"]+)"', page.text)
    text = await admin.act("/console/jobs/abort", id=ids, **chosen)
    assert "5 jobs aborted." in text
    assert [await job.status() for job in jobs] == ["aborted"] * 5
    assert [await job.status() for job in (other, late)] == ["scheduled"] * 2
    monkeypatch.setattr(choice, "BULK", 1)
    monkeypatch.setattr(actions, "BULK", 1)
    page = await admin.get(
        "/console/jobs/confirm", params={"state": "scheduled", "all": 1, "action": "abort"}
    )
    assert "Abort 1 job?" in page.text
    assert "more may match" in page.text


async def test_a_running_job_shows_its_progress_and_is_aborted(admin, app_worker):
    @app_worker.task
    async def count() -> None:
        await report_progress(3, 2_500_000, "three of many")
        await asyncio.sleep(60)

    job = await count.enqueue()

    async def is_shown() -> bool:
        return "three of many" in (await admin.get(f"/console/jobs/{job.id}")).text

    await eventually(is_shown)
    assert "3 of 2,500,000" in (await admin.get(f"/console/jobs/{job.id}")).text
    page = await admin.get("/console/jobs")
    assert read_headings(page.text) == ["ID", "TASK", "STATE", "ATTEMPT", "WORKER", "SINCE"]
    assert '<progress value="3' in page.text
    await eventually(app_worker.workers)
    text = await admin.act("/console/jobs/abort", id=[job.id, "unknown"])
    assert "1 unknown" in text
    assert (await job.wait(10)).status == "aborted"


async def test_a_chain_shows_its_stages(admin, app_worker):
    @app_worker.task
    async def first() -> str:
        return "7"

    chain = await (first | service.ship).enqueue()
    await chain.result(10)
    page = await admin.get(f"/console/jobs/{chain.stages[0].id}")
    stages = re.search(r"<h2>Chain</h2>.*?</ol>", page.text, re.DOTALL)
    assert stages
    assert stages[0].count("<li>") == 2
    assert "(this job)" in stages[0]


async def test_the_overview_has_the_figures(admin, app_worker):
    await service.ship.using(delay=1000).enqueue("7")
    now = datetime.now(UTC).replace(second=0, microsecond=0)
    row = {"task": "ship", "completed": 41, "failed": 1, "d3": 42, "w0": 42}
    hour = now.replace(minute=0)
    starts = {1: now - timedelta(minutes=2), 60: hour, 24 * 60: hour.replace(hour=0)}
    for minutes, start in starts.items():
        period = {"start": start, "minutes": minutes, "worker": "w", "tasks": [row]}
        expires_at = now + timedelta(hours=1)
        await MinuteModel.get_pymongo_collection().insert_one({**period, "expires_at": expires_at})
    await AlertModel(
        id="schedule:x", kind="schedule", key="x", title="The <b> is late", text="so late",
        started_at=now, seen_at=now,
    ).insert()  # fmt: skip
    page = (await admin.get("/console")).text
    assert "The workers keep up: 0 jobs pending." in page
    assert page.count(">41 completed, 1 failed<") == 2
    assert '<a href="/console/schedules">The &lt;b&gt; is late</a>' in page
    assert re.search(r"<b>1</b><span>scheduled", page)
    assert page.count('<rect class="bad-bar"') == 2
    tasks = (await admin.get("/console/tasks")).text
    assert "max_retries=0" in tasks
    assert re.search(r'data-th="Runs" class="num">42<', tasks)


async def test_charts_name_their_times_and_their_highest_values(admin):
    now = datetime.now(UTC).replace(second=0, microsecond=0)
    row = {"task": "ship", "completed": 1233, "failed": 1, "d3": 1234}
    minute = {"start": now - timedelta(minutes=2), "minutes": 1, "worker": "w", "tasks": [row]}
    minutes = MinuteModel.get_pymongo_collection()
    await minutes.insert_one({**minute, "expires_at": now + timedelta(hours=1)})
    page = (await admin.get("/console")).text
    assert "<span>1,234 runs in the busiest minute</span>" in page
    assert re.search(r'<span class="p95">p95 up to \d+ ms</span>', page)
    assert "<span>No runs</span>" in page  # of the day, which has its own documents
    hour, day = re.findall(r'<p class="scale times">(.*?)</p>', page)
    first, middle, last = re.findall(r'<time datetime="([^"]+)">([^<]+)</time>', hour)
    begin = datetime.fromisoformat(first[0])
    assert begin - (now - timedelta(hours=1)) <= timedelta(minutes=1)
    assert first[1] == begin.strftime("%H:%M")
    assert datetime.fromisoformat(middle[0]) - begin == timedelta(minutes=30)
    assert re.fullmatch(r"\d\d:\d\d UTC", last[1])
    assert re.search(r">(Mon|Tue|Wed|Thu|Fri|Sat|Sun) \d\d:00</time>", day)
    text = re.search(r'aria-label="Last hour, from ([^"]+)"', page)
    assert text
    assert text[1].startswith(f"{first[1]} to {last[1]}: 1,233 completed, 1 failed. 1,234 runs in")


async def test_workers_are_listed(admin, app_worker):
    await eventually(app_worker.workers)
    page = (await admin.get("/console/workers")).text
    assert "local" in page
    assert "slots in use" in page


@pytest.mark.parametrize("path", ["", "/jobs"])
async def test_without_the_queue_the_console_says_what_it_cannot_know(admin, path):
    page = (await admin.get(f"/console{path}")).text
    assert "This page shows only the jobs of process" in page
    page = (await admin.get("/console/failures")).text
    assert "The job queue is off" not in page  # MongoDB has the failures of all processes

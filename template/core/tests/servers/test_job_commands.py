"""The commands about single jobs, on the queue that workers use."""

import asyncio
import json
import os
import re
import sys
from collections.abc import AsyncIterator

import pytest

from core.config import ROOT, Settings, get_settings
from core.tasks import JobStatus, Worker, report_progress
from core.tasks.engines import DEFAULT
from core.testing import eventually
from core.tests.processes.conftest import environment
from core.tests.processes.test_shell import GIVEN
from core.tests.running import WAIT, running
from core.tests.servers.command_line import Done
from core.tests.terminal import Terminal

pytestmark = pytest.mark.skipif(DEFAULT == "local", reason="no other process sees the jobs")

CTRL_C = "\x03"
COLOR = re.compile(r"\x1b\[[\d;?]*[a-zA-Z]")


class Site:
    """A worker that runs jobs in the test's process.

    Attributes:
        gate: Lets the jobs of `build` end.
    """

    def __init__(self, worker: Worker) -> None:
        self.gate = asyncio.Event()

        @worker.task
        async def build(house: str) -> None:
            await report_progress(2, 5, "walls")
            await self.gate.wait()

        @worker.task(max_retries=1, retry_delay=0.01)
        async def collapse(house: str) -> None:
            raise ValueError(f"{house} fell\x1b[2J\nin the night")

        self.build, self.collapse = build, collapse

    async def start(self, house: str) -> str:
        """Start a job that waits for the gate, and return its id."""
        job = await self.build.enqueue(house)

        async def has_begun() -> bool:
            return await job.progress() is not None

        await eventually(has_begun, WAIT)
        return job.id


@pytest.fixture
async def site(settings: Settings, worker: Worker, monkeypatch) -> AsyncIterator[Site]:
    monkeypatch.setenv("TASK_ENGINE", DEFAULT)
    get_settings.cache_clear()
    site = Site(worker)
    async with running(worker, get_settings()):
        yield site
        site.gate.set()


def rows(done: Done) -> list[list[str]]:
    assert (done.status, done.errors) == (0, "")
    return [re.split("  +", line) for line in done.output.splitlines()]


async def test_jobs_are_listed_by_state(command, site, worker):
    assert await command("jobs", "list") == Done(0, "", "No jobs.\n")
    running_id = await site.start("h-1")
    later = await site.build.using(delay=3600).enqueue("h-2")
    headings, first, second = rows(await command("jobs", "list"))
    assert headings == ["ID", "TASK", "STATE", "OWNER", "ATTEMPT", "WORKER", "SINCE", "ERROR"]
    assert first[:3] == [running_id, "build", "running"]
    assert second[:3] == [later.id, "build", "scheduled"]

    headings, only = rows(await command("jobs", "list", "--state", "scheduled"))
    assert headings[6] == "DUE"
    assert only[0] == later.id
    done = await command("jobs", "list", "--task", "none")
    assert done == Done(0, "", "No jobs match.\n")
    assert len(rows(await command("jobs", "list", "--limit", "1"))) == 2


async def test_json_has_the_data_of_the_api(command, site, worker):
    job_id = await site.start("h-1")
    done = await command("jobs", "list", "--json")
    (job,) = json.loads(done.output)
    (expected,) = (await worker.jobs.browse(state=JobStatus.RUNNING)).jobs
    assert (job["id"], job["state"], job["worker"]) == (job_id, "running", expected.worker)
    assert job["progress"] == {"done": 2, "total": 5, "message": "walls"}
    assert expected.at
    assert job["at"] == expected.at.isoformat().replace("+00:00", "Z")
    assert job.keys() == set(expected.__slots__)
    done = await command("jobs", "list", "--state", "failed", "--json")
    assert (json.loads(done.output), done.errors) == ([], "")


async def test_the_figures_are_those_of_the_api(command, site, worker):
    await site.start("h-1")
    await eventually(worker.workers, WAIT)
    found = json.loads((await command("stats", "--json")).output)
    assert found["jobs"] == {**dict.fromkeys(await worker.jobs.count(), 0), "running": 1}
    done = await command("stats")
    assert (done.status, done.errors) == (0, "No job ran.\nNo job ran.\n")
    assert done.output.startswith("The workers keep up: 0 jobs pending.\n")
    assert "\nrunning               1\n" in done.output


async def test_a_job_is_shown_with_its_runs_and_dead_letter(command, site, worker):
    job = await site.collapse.enqueue("h-1")
    await job.wait(WAIT)

    async def has_all() -> bool:
        details = await worker.jobs.get(job.id)
        return bool(details and len(details.runs) == 2 and details.dead_letters)

    await eventually(has_all, WAIT)
    done = await command("jobs", "show", job.id)
    assert (done.status, done.errors) == (0, "")
    assert f"id: {job.id}\ntask: collapse\nstate: failed\n" in done.output
    assert "\x1b" not in done.output
    _, timeline = done.output.split("\nTimeline\n")
    headings, first, second, *_ = (re.split("  +", line) for line in timeline.splitlines())
    assert headings == ["ENDED AS", "ATTEMPT", "WORKER", "STARTED", "DURATION", "ERROR"]
    assert re.fullmatch(r"\d+ ms|\d\.\d s", first[4])
    assert [first[:2], second[:2]] == [["retried", "1"], ["failed", "2"]]
    assert "\nDead letters\n" in timeline

    shown = json.loads((await command("jobs", "show", job.id, "--json")).output)
    assert shown["job"]["state"] == "failed"
    assert [run["ended_as"] for run in shown["runs"]] == ["retried", "failed"]
    assert shown["dead_letters"][0]["arguments"] == {"house": "h-1"}

    headings, line = rows(await command("jobs", "list", "--state", "failed"))
    assert headings[6] == "ENDED"
    assert line[-1] == "ValueError: h-1 fell?[2J"


async def test_jobs_are_aborted(command, site, worker):
    running_id = await site.start("h-1")
    later = await site.build.using(delay=3600).enqueue("h-2")
    done = await command("jobs", "abort", running_id, later.id)
    assert done == Done(0, f"job {running_id} aborted\njob {later.id} aborted\n", "")
    done = await command("jobs", "abort", running_id, "no-such-job")
    expected = f"job {running_id} aborted\njob no-such-job is not known, or ended too long ago\n"
    assert done == Done(1, expected, "")


async def test_a_job_that_has_ended_is_not_aborted(command, site):
    site.gate.set()
    job = await site.build.enqueue("h-1")
    await job.wait(WAIT)
    done = await command("jobs", "abort", job.id)
    assert done == Done(1, f"job {job.id} had already ended: completed\n", "")


@pytest.mark.parametrize("action", ["show", "watch"])
async def test_an_unknown_job_is_an_error(command, site, action):
    done = await command("jobs", action, "no-such-job")
    problem = "error: there is no job no-such-job, or it ended too long ago\n"
    assert done == Done(2, "", problem)


async def test_a_job_is_watched_in_a_pipe(command, site):
    job_id = await site.start("h-1")
    watching = asyncio.create_task(command("jobs", "watch", job_id))
    site.gate.set()
    assert await watching == Done(0, f"job {job_id} completed\n", "")
    failed = await site.collapse.enqueue("h-2")
    done = await command("jobs", "watch", failed.id)
    assert done == Done(1, f"job {failed.id} failed: ValueError: h-2 fell?[2J\n", "")


def open_terminal(*arguments: str, width: int = 80, **changes: str) -> Terminal:
    given = {name: os.environ[name] for name in GIVEN if name in os.environ}
    command = [sys.executable, "-m", "core", *arguments]
    return Terminal(command, ROOT, environment(ROOT, **given, **changes), width)


async def test_a_terminal_shows_the_progress_until_the_end(site):
    job_id = await site.start("h-1")
    terminal = open_terminal("jobs", "watch", job_id)
    await asyncio.to_thread(terminal.read_until, "2 of 5 walls")
    site.gate.set()
    rest = await asyncio.to_thread(terminal.read_rest)
    assert f"job {job_id} completed" in COLOR.sub("", rest)
    assert await asyncio.to_thread(terminal.wait) == 0
    terminal.close()


async def test_ctrl_c_ends_the_watch_and_not_the_job(site, worker):
    job_id = await site.start("h-1")
    terminal = open_terminal("jobs", "watch", job_id)
    await asyncio.to_thread(terminal.read_until, "2 of 5 walls")
    terminal.press(CTRL_C)
    rest = await asyncio.to_thread(terminal.read_rest)
    assert await asyncio.to_thread(terminal.wait) == 130
    assert "Traceback" not in rest
    assert rest.count("\x1b[?25h") == 1  # the cursor is shown again
    assert await worker.job(job_id).status() is JobStatus.RUNNING
    terminal.close()


@pytest.mark.parametrize("width", [50, 80, 200])
async def test_a_table_fits_in_a_terminal(site, width):
    job_id = await site.start("h-1")
    terminal = open_terminal("jobs", "list", width=width)
    shown = await asyncio.to_thread(terminal.read_rest)
    terminal.close()
    assert "\x1b[36mrunning" in shown
    lines = COLOR.sub("", shown).splitlines()
    assert max(map(len, lines)) <= width
    headings, line, *_ = lines
    names = ["ID", "TASK", "STATE", "ATTEMPT", "WORKER", "SINCE"]
    assert headings.split() == (names if width > 50 else names[:3])
    assert line.split()[:2] == [job_id, "build"]
    # A column that does not fit is below the row.
    assert all(f"{each} " in " ".join([*lines, ""]) for each in names)


@pytest.mark.parametrize("width", [80, 100, 140])
async def test_a_terminal_cuts_no_id(site, worker, width):
    job = await site.collapse.enqueue("h" * 200)
    await job.wait(WAIT)
    (letter,) = await eventually(worker.dead_letters.list, WAIT)
    for command, shown_id in (("dead-letters", letter.id), ("history", job.id)):
        terminal = open_terminal(command, *["list"] * (command == "dead-letters"), width=width)
        shown = COLOR.sub("", await asyncio.to_thread(terminal.read_rest))
        terminal.close()
        lines = shown.splitlines()
        assert max(map(len, lines)) <= width
        assert shown_id in shown
        assert "collapse" in lines[1]
        assert "TASK" in lines[0]
        assert re.search(r"ValueError: h+…", shown)


async def test_no_color_turns_colors_off(site):
    await site.start("h-1")
    terminal = open_terminal("jobs", "list", NO_COLOR="1")
    assert "\x1b[36m" not in await asyncio.to_thread(terminal.read_rest)
    terminal.close()

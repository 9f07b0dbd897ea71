"""The pages of the console."""

import asyncio
import json
import re
from dataclasses import fields
from datetime import UTC, datetime, timedelta
from typing import Annotated

from bson import ObjectId
from fastapi import APIRouter, HTTPException, Query, Response

from core.database import make_query
from core.models import AuditModel, DeadLetterModel, DeadLetterState, UserModel
from core.services.accounts import normalize_email
from core.services.audit import audit_log
from core.tasks import JobPage, JobStatus, QueueUnavailable, TaskOptions
from core.tasks.alerts import PAGES
from core.tasks.backlog import Verdict, judge_backlog
from core.tasks.dead_letters import MAX_GROUPED, masked_arguments
from core.web.console.choice import Choice, find_schedules, state_of
from core.web.console.page import LOOK, Console, Here, Page
from core.web.console_port import CONSOLE

router = APIRouter(prefix=CONSOLE, route_class=Page)

ROWS = 50
MAX_ARGUMENTS = 100_000
"""The largest number of characters of arguments that a page shows."""
Chosen = Annotated[Choice, Query()]


@router.get("")
async def show_overview(console: Here) -> Response:
    """Show the jobs of the service at a glance."""
    worker = console.worker
    now = datetime.now(UTC)
    read = worker.statistics.read
    hour, day, groups, workers, alerts, verdict = await asyncio.gather(
        read(now - timedelta(hours=1), step=timedelta(minutes=1), by_task=False),
        read(now - timedelta(days=1), step=timedelta(hours=1), by_task=False),
        worker.dead_letters.groups(),
        worker.workers(),
        worker.alerts.list(),
        _judge(console),
    )
    return console.show(
        "overview",
        alert_pages=PAGES,
        hour=hour,
        day=day,
        groups=groups,
        workers=workers,
        alerts=alerts,
        verdict=verdict,
        max_grouped=MAX_GROUPED,
    )


async def _judge(console: Console) -> Verdict | None:
    try:
        return await judge_backlog(console.worker.queue.engine, console.settings)
    except QueueUnavailable:
        return None


@router.get("/failures")
async def show_failures(console: Here, choice: Chosen) -> Response:
    """Show dead letters: the groups, and the newest ones."""
    filters = choice.letters()
    groups = await console.worker.dead_letters.groups(**filters)
    letters = await console.worker.dead_letters.list(limit=ROWS, brief=True, **filters)
    return console.show(
        "failures",
        choice=choice,
        state=filters["state"],
        states=list(DeadLetterState),
        groups=groups,
        letters=letters,
        max_grouped=MAX_GROUPED,
        older=_find_older(letters),
    )


def _find_older(letters: list[DeadLetterModel]) -> datetime | None:
    """Return the `until` of the next page, or None on the last page.

    Dead letters of the last millisecond are on both pages, so none is missed, unless more than
    `ROWS` jobs failed in one millisecond.
    """
    if len(letters) < ROWS:
        return None
    end = letters[-1].died_at + timedelta(milliseconds=1)
    return min(end, letters[0].died_at)


@router.get("/failures/{letter_id}")
async def show_failure(console: Here, letter_id: str) -> Response:
    """Show one dead letter, without its arguments."""
    letter = await console.worker.dead_letters.get(letter_id)
    return console.show("failure", letter=letter, arguments=None)


@router.post("/failures/{letter_id}/arguments", tags=[LOOK])
async def show_arguments(console: Here, letter_id: str) -> Response:
    """Show one dead letter with its arguments, and note it in the audit log."""
    letter = await console.worker.dead_letters.get(letter_id)
    await audit_log("arguments.shown", dead_letter=letter.id, job=letter.job_id, task=letter.task)
    arguments = json.dumps(masked_arguments(letter), indent=2, ensure_ascii=False)
    return console.show("failure", letter=letter, arguments=arguments[:MAX_ARGUMENTS])


@router.get("/jobs")
async def show_jobs(console: Here, choice: Chosen) -> Response:
    """Show the jobs of one state, or the jobs with an id."""
    jobs = console.worker.jobs
    if choice.find:
        page = JobPage(await jobs.find(choice.find), None)
    else:
        page = await jobs.browse(**choice.jobs(), after=choice.after, limit=ROWS)
    states = [each for each in JobStatus if each is not JobStatus.UNKNOWN]
    state = choice.jobs()["state"]
    return console.show("jobs", choice=choice, state=state, states=states, listed=page)


@router.get("/jobs/{job_id}")
async def show_job(console: Here, job_id: str) -> Response:
    """Show one job, with its timeline and its chain."""
    details = await console.worker.jobs.get(job_id)
    if details is None:
        problem = "No job has this id, or its record and its runs have expired."
        raise HTTPException(404, problem)
    return console.show("job", job=details.summary, details=details)


@router.get("/schedules")
async def show_schedules(console: Here, choice: Chosen) -> Response:
    """Show the schedules, and the runs of one of them."""
    runs = None
    if len(choice.id) == 1:
        runs = await console.worker.history.list(schedule=choice.id[0], limit=ROWS)
    found = await find_schedules(console, choice)
    return console.show("schedules", choice=choice, found=found, runs=runs, state_of=state_of)


@router.get("/workers")
async def show_workers(console: Here) -> Response:
    """Show the processes that run jobs."""
    return console.show("workers", workers=await console.worker.workers())


@router.get("/tasks")
async def show_tasks(console: Here) -> Response:
    """Show the tasks, with their options and the figures of the last day."""
    now = datetime.now(UTC)
    (day,) = await console.worker.statistics.read(now - timedelta(days=1))
    tasks = dict(sorted(console.worker.tasks.items()))
    options = {name: _describe(task.options) for name, task in tasks.items()}
    minutes = (now - day.start) / timedelta(minutes=1)  # it begins at a full hour
    return console.show("tasks", options=options, figures=day.tasks, minutes=minutes)


def _describe(options: TaskOptions) -> str:
    """Return the options of a task that differ from the defaults."""
    default = TaskOptions()
    given = {field.name: getattr(options, field.name) for field in fields(options)}
    set_here = {name: each for name, each in given.items() if each != getattr(default, name)}
    # A function, such as the key of a limit, has no useful text.
    text = ", ".join(f"{name}={each}" for name, each in set_here.items())
    return re.sub(r"<function .*? at 0x\w+>", "...", text)


@router.get("/audit")
async def show_audit(console: Here, choice: Chosen) -> Response:
    """Show the audit log, the newest entries first."""
    query = make_query(
        "at",
        choice.begin,
        choice.until,
        action=choice.action,
        actor=await _find_id(choice.actor),
        subject=await _find_id(choice.subject),
    )
    if choice.after and ObjectId.is_valid(choice.after):
        query["_id"] = {"$lt": ObjectId(choice.after)}
    entries = await AuditModel.find(query).sort("-_id").limit(ROWS).to_list()
    people = {person for entry in entries for person in (entry.actor, entry.subject)}
    ids = [ObjectId(person) for person in people if person and ObjectId.is_valid(person)]
    users = await UserModel.find({"_id": {"$in": ids}}).to_list()
    emails = {str(user.id): user.email for user in users}
    return console.show("audit", choice=choice, entries=entries, emails=emails, rows=ROWS)


async def _find_id(text: str | None) -> str | None:
    """Return the id of the user with this email address, or else the text itself."""
    user = await UserModel.find_one({"email": normalize_email(text)}) if text else None
    return str(user.id) if user else text

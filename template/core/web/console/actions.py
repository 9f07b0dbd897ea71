"""Actions on one thing or on many: replay, discard, abort, run, enable and disable."""

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable
from typing import Annotated, Literal, NamedTuple, TypeAlias
from urllib.parse import quote

from fastapi import APIRouter, Form, HTTPException, Query, Response
from fastapi.responses import RedirectResponse

from core.services.audit import MAX_NOTED, audit_log
from core.tasks import JobStatus, ScheduleError, Worker
from core.web.console.choice import (
    BULK,
    Choice,
    Found,
    find_jobs,
    find_letters,
    find_schedules,
    state_of,
)
from core.web.console.page import Console, Here, Page, log_in_url
from core.web.console_port import CONSOLE

router = APIRouter(prefix=CONSOLE, route_class=Page, form_limits={"max_fields": BULK + 100})

ABORTED_AT_ONCE = 50
ABORT_SECONDS = 2.0

Things: TypeAlias = Literal["failures", "jobs", "schedules"]
Done: TypeAlias = tuple[int, str]
"""How many things an action has changed, and a remark for the message."""
FIND: dict[str, Callable[[Console, Choice], Awaitable[Found]]] = {
    "failures": find_letters,
    "jobs": find_jobs,
    "schedules": find_schedules,
}


async def _replay(worker: Worker, ids: list[str]) -> Done:
    count = 0
    async for job_ids in worker.dead_letters.replay_many(ids=ids):
        count += len(job_ids)
    return count, _say_rest(len(ids) - count)


async def _discard(worker: Worker, ids: list[str]) -> Done:
    count = await worker.dead_letters.discard_many(ids=ids)
    return count, _say_rest(len(ids) - count)


def _say_rest(count: int) -> str:
    why = "already replayed or discarded, or unreadable"
    return f"{count:,} did not change: {why}." if count else ""


async def _abort(worker: Worker, ids: list[str]) -> Done:
    seconds = ABORT_SECONDS if len(ids) == 1 else 0
    ended: Counter[JobStatus] = Counter()
    for start in range(0, len(ids), ABORTED_AT_ONCE):
        some = ids[start : start + ABORTED_AT_ONCE]
        ended.update(await asyncio.gather(*(worker.jobs.abort(each, seconds) for each in some)))
    count = ended.pop(JobStatus.ABORTED, 0)
    rest = ", ".join(f"{number:,} {status}" for status, number in ended.items())
    hint = " A running job stops as soon as its code can." if JobStatus.RUNNING in ended else ""
    return count, f"Not aborted: {rest}.{hint}" if rest else ""


def _on_schedules(name: str) -> "Callable[[Worker, list[str]], Awaitable[Done]]":
    async def act(worker: Worker, ids: list[str]) -> Done:
        problems = []
        for schedule_id in ids:
            try:
                await getattr(worker.schedules, name)(schedule_id)
            except ScheduleError as error:
                problems.append(f"Not possible: {error}.")
        return len(ids) - len(problems), problems[0] if problems else ""

    return act


class Action(NamedTuple):
    """An action. Its name in the audit log is `thing.done`."""

    thing: str
    done: str
    act: Callable[[Worker, list[str]], Awaitable[Done]]


ACTIONS = {
    ("failures", "replay"): Action("dead_letter", "replayed", _replay),
    ("failures", "discard"): Action("dead_letter", "discarded", _discard),
    ("jobs", "abort"): Action("job", "aborted", _abort),
    ("schedules", "run"): Action("schedule", "started", _on_schedules("run_now")),
    ("schedules", "enable"): Action("schedule", "enabled", _on_schedules("enable")),
    ("schedules", "disable"): Action("schedule", "disabled", _on_schedules("disable")),
}


async def _check(console: Console, things: Things, name: str, choice: Choice) -> Action:
    """Return an action. A bulk discard needs a fresh log-in."""
    action = ACTIONS.get((things, name))
    if action is None:
        raise HTTPException(404, f"The console has no action {name!r} for {things}.")
    if name == "discard" and choice.is_bulk and not await console.is_fresh():
        url = console.request.url.replace(scheme="", netloc="")
        back = str(url) if console.request.method == "GET" else url.path.rpartition("/")[0]
        location = log_in_url(console.request, back, again=True)
        raise HTTPException(303, "Log in again to discard more than one.", {"Location": location})
    return action


@router.get("/{things}/confirm")
async def confirm(console: Here, things: Things, choice: Annotated[Choice, Query()]) -> Response:
    """Show what an action would change. The form on this page contains exactly these ids."""
    name = choice.action or ""
    action = await _check(console, things, name, choice)
    found = await FIND[things](console, choice) if choice.id or choice.all else []
    return console.show(
        "confirm",
        things=things,
        name=name,
        noun=action.thing.replace("_", " "),
        choice=choice,
        found=found,
        limit=BULK,
        state_of=state_of,
    )


@router.post("/{things}/{name}")
async def act(
    console: Here,
    things: Things,
    name: str,
    choice: Annotated[Choice, Form()],
) -> RedirectResponse:
    """Run an action, and show how many things it changed.

    A thing whose state has changed since the confirmation page was shown is left unchanged.
    """
    action = await _check(console, things, name, choice)
    ids = list(dict.fromkeys(choice.id))
    count = None
    try:
        count, remark = await action.act(console.worker, ids)
    finally:  # an outage may interrupt the action
        event = f"{action.thing}.{action.done}"
        await audit_log(event, chosen=len(ids), changed=count, ids=ids[:MAX_NOTED])
    noun = action.thing.replace("_", " ") + ("" if count == 1 else "s")
    message = f"{count:,} {noun} {action.done}. {remark}"
    if len(ids) == 1 and things != "schedules":
        return console.go(f"/{things}/{quote(ids[0], safe='')}", message)
    return console.go(f"/{things}", message, **choice.filters)

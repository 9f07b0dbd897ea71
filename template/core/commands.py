"""What a person does from the command line: dead letters, schedules, history and administrators."""

import argparse
import asyncio
import json
import sys
from datetime import UTC, datetime
from getpass import getpass

from pydantic import EmailStr, TypeAdapter, ValidationError

from core.config import Settings
from core.entry import load_service, open_service
from core.errors import UserError
from core.logging import MASK
from core.models import DeadLetterModel, DeadLetterState
from core.services.accounts import MAX_PASSWORD, MIN_PASSWORD, make_admin
from core.tasks import DeadLetters, ScheduleView, Worker

AT_ONCE = 1000
DRAIN_SECONDS = 0.5
EMAIL: TypeAdapter[str] = TypeAdapter(EmailStr)


def run_command(chosen: argparse.Namespace, settings: Settings) -> int:
    """Run one of these commands.

    Raises:
        UserError: A letter cannot be found or replayed, or none was chosen.
    """
    return asyncio.run(_run(chosen, settings))


async def _run(chosen: argparse.Namespace, settings: Settings) -> int:
    service = load_service(settings)
    async with open_service(service, settings) as database:
        database.require()
        commands = {
            "dead-letters": _dead_letters,
            "schedules": _schedules,
            "history": _history,
            "admin": _admin,
            "drain": _drain,
        }
        await commands[chosen.command](service.worker, chosen)
    return 0


async def _dead_letters(worker: Worker, chosen: argparse.Namespace) -> None:
    letters = worker.dead_letters
    if chosen.action == "list":
        for letter in await _find(letters, chosen):
            print(_line(letter))
    elif chosen.action == "show":
        for letter_id in chosen.ids:
            print(_whole(await letters.get(letter_id)))
    else:
        await _decide(worker, chosen)


async def _schedules(worker: Worker, chosen: argparse.Namespace) -> None:
    schedules = worker.schedules
    if chosen.action == "list":
        for view in await schedules.list():
            if not chosen.ids or view.id in chosen.ids:
                print(_schedule_line(view))
        return
    if not chosen.ids:
        raise UserError(f"name the schedules to {chosen.action}; `schedules list` shows them")
    for schedule_id in chosen.ids:
        if chosen.action == "run":
            await _told(worker, f"{schedule_id} runs as", await schedules.run_now(schedule_id))
        else:
            await (schedules.enable if chosen.action == "enable" else schedules.disable)(
                schedule_id
            )
            print(f"{schedule_id} {chosen.action}d")


async def _history(worker: Worker, chosen: argparse.Namespace) -> None:
    runs = await worker.history.list(
        task=chosen.task,
        schedule=chosen.schedule,
        ended_as=chosen.ended_as,
        since=chosen.since,
        until=chosen.until,
        limit=chosen.limit,
    )
    for run in runs:
        error = f"  {_first_line(run.error)}" if run.error else ""
        print(
            f"{_moment(run.started_at)}  {run.task}  {run.ended_as}  {run.seconds} s  job {run.job_id}{error}"
        )


async def _drain(worker: Worker, _: argparse.Namespace) -> None:
    engine, shown = worker.queue.engine, None
    if engine.in_process:
        raise UserError("the job queue is off, so that there is nothing to drain")
    while True:
        stats = await engine.stats()
        left = f"{stats.pending} pending, {stats.running} running, {stats.scheduled} scheduled"
        if left != shown:
            print(left, flush=True)
            shown = left
        if not stats.pending + stats.running + stats.scheduled:
            return
        await asyncio.sleep(DRAIN_SECONDS)


async def _admin(_: Worker, chosen: argparse.Namespace) -> None:
    try:
        email = EMAIL.validate_python(chosen.email)
    except ValidationError:
        raise UserError(f"{chosen.email!r} is no e-mail address") from None
    user = await make_admin(email, _new_password())
    print(
        f"{user.email} is an administrator, with this password; sessions that there were have ended"
    )


def _new_password() -> str:
    """A password from the terminal, typed twice, or the first line of what is piped in."""
    if not sys.stdin.isatty():
        password = sys.stdin.readline().rstrip("\n")
    elif (password := getpass("Password: ")) != getpass("Once more: "):
        raise UserError("these were two passwords; nothing was changed")
    if not MIN_PASSWORD <= len(password) <= MAX_PASSWORD:
        raise UserError(
            f"a password has {MIN_PASSWORD} to {MAX_PASSWORD} characters; nothing was changed"
        )
    return password


def _first_line(text: str) -> str:
    return (text.splitlines() or [""])[0][:100]


def _schedule_line(view: ScheduleView) -> str:
    state = "enabled " if view.enabled else "disabled"
    last = f"{_moment(view.last_run)} {view.status}" if view.last_run else "never"
    return f"{view.id}  {state}  next {_moment(view.next_run)}  last {last}  {view.trigger}"


async def _told(worker: Worker, what: str, job_id: str) -> None:
    print(f"{what} job {job_id}")
    if worker.queue.engine.in_process:
        # It runs here, and would be lost if this process ended before it.
        print(f"job {job_id} {(await worker.job(job_id).wait()).status}")


def _moment(time: datetime | None) -> str:
    return time.astimezone(UTC).isoformat(timespec="seconds") if time else "never"


async def _decide(worker: Worker, chosen: argparse.Namespace) -> None:
    letters = worker.dead_letters
    if not chosen.ids and not chosen.all:
        raise UserError(
            f"name the dead letters to {chosen.action}, or choose with --task, --error, ... and --all"
        )
    ids = chosen.ids or [letter.id for letter in await _find(letters, chosen)]
    for letter_id in ids:
        if chosen.action == "replay":
            await _told(worker, f"{letter_id} replayed as", await letters.replay(letter_id))
        else:
            await letters.discard(letter_id)
            print(f"{letter_id} discarded")


async def _find(letters: DeadLetters, chosen: argparse.Namespace) -> list[DeadLetterModel]:
    return await letters.list(
        task=chosen.task,
        error=chosen.error,
        since=chosen.since,
        until=chosen.until,
        state=DeadLetterState.DEAD,
        limit=AT_ONCE,
    )


def _line(letter: DeadLetterModel) -> str:
    error = f"{letter.error_type}: {_first_line(letter.error)}"
    return f"{letter.id}  {_moment(letter.died_at)}  {letter.task or '(unreadable)'}  {error}"


def _whole(letter: DeadLetterModel) -> str:
    fields = letter.model_dump(mode="json", exclude={"traceback", "sensitive"})
    fields["arguments"] = json.dumps(
        json.loads(letter.arguments) | dict.fromkeys(letter.sensitive, MASK)
    )
    lines = [f"{name}: {value}" for name, value in fields.items() if value is not None]
    return "\n".join([*lines, letter.traceback])

"""The commands about dead letters, schedules, history, accounts and the queue."""

import asyncio
import json
import sys
from argparse import Namespace
from collections.abc import Awaitable, Callable, Iterable
from contextlib import suppress
from getpass import getpass
from typing import TypeAlias, cast

from pydantic import EmailStr, TypeAdapter, ValidationError
from pymongo.errors import ConnectionFailure

from core.commands.tables import first_line, format_table, format_time
from core.config import Settings
from core.database import summarize_error
from core.entry import load_service, open_service
from core.errors import UserError
from core.logging import MASK, configure_logging
from core.models import DeadLetterModel, RunModel
from core.services.accounts import Password, make_admin
from core.tasks import DeadLetterFilters, DeadLetters, QueueUnavailable, ScheduleView, Worker
from core.tasks.time_limits import leave_abandoned

LETTER_HEADINGS = ["ID", "DIED", "TASK", "ERROR"]
SCHEDULE_HEADINGS = ["ID", "STATE", "NEXT RUN", "LAST RUN", "STATUS", "TRIGGER", "REMARK"]
FILTERS = ["task", "error", "since", "until"]
RUN_HEADINGS = ["STARTED", "TASK", "ENDED AS", "SECONDS", "JOB", "ERROR"]
DRAIN_SECONDS = 0.5
EXIT_JOBS_LEFT = 1
LEFT = """\
The queue still has jobs: {found}. If you disable the queue, they wait until you enable it again.
To run them first, start a worker and run `just drain`. To leave them in the queue, run:
just update --to current --defaults --data enable_job_queue=false"""

Command: TypeAlias = Callable[[Worker, Namespace], Awaitable[int | None]]
EMAIL: TypeAdapter[str] = TypeAdapter(EmailStr)
PASSWORD: TypeAdapter[str] = TypeAdapter(Password)


def run_command(chosen: Namespace, settings: Settings) -> int:
    """Run one of these commands.

    Args:
        chosen: The parsed command line.
        settings: The service's settings.

    Returns:
        The exit status.

    Raises:
        UserError: The command failed; the message says why.
    """
    configure_logging(settings, "command", is_command=True)
    return asyncio.run(_run(chosen, settings))


async def _run(chosen: Namespace, settings: Settings) -> int:
    commands: dict[str, Command] = {
        "dead-letters": _dead_letters,
        "schedules": _schedules,
        "history": _history,
        "admin": _admin,
        "drain": _drain,
    }
    service = load_service(settings)
    async with open_service(service, settings) as database:
        database.require()
        try:
            status = await commands[chosen.command](service.worker, chosen)
        except ConnectionFailure as error:
            raise database.unavailable(summarize_error(error)) from error
    leave_abandoned()
    return status or 0


async def _dead_letters(worker: Worker, chosen: Namespace) -> None:
    letters = worker.dead_letters
    if chosen.action == "list":
        await _list_letters(letters, chosen)
    elif not chosen.ids:
        await _decide_many(worker, chosen)
    for letter_id in getattr(chosen, "ids", []):
        match chosen.action:
            case "show":
                print(_describe(await letters.get(letter_id)))
            case "replay":
                job_id = await letters.replay(letter_id)
                await _report(worker, f"{letter_id} replayed as", job_id)
            case "discard":
                await letters.discard(letter_id)
                print(f"{letter_id} discarded")


async def _list_letters(letters: DeadLetters, chosen: Namespace) -> None:
    filters = _filters(chosen)
    found = await letters.list(limit=chosen.limit, **filters)
    _print_table(LETTER_HEADINGS, map(_letter_row, found), _none_found(filters))
    total = await letters.count(**filters)
    if total > len(found):
        print(f"{len(found)} of {total}; --limit prints more", file=sys.stderr)
    with suppress(QueueUnavailable):
        if stashed := await letters.count_stashed():
            print(f"{stashed} more wait for a worker to store them in MongoDB", file=sys.stderr)


async def _decide_many(worker: Worker, chosen: Namespace) -> None:
    """Replay or discard all dead letters that match the options."""
    if not chosen.all:
        options = "or choose them with --all and options such as --task"
        raise UserError(f"name the dead letters to {chosen.action}, {options}")
    letters = worker.dead_letters
    filters = _filters(chosen)
    total = await letters.count(**filters)
    if not total:
        print(_none_found(filters), file=sys.stderr)
    elif chosen.action == "discard":
        print(f"{await letters.discard_many(**filters)} discarded")
    else:
        replayed: list[str] = []
        async for job_ids in letters.replay_many(**filters):
            replayed += job_ids
            print(f"{len(replayed)} of {total} replayed", file=sys.stderr)
        if worker.queue.engine.in_process:
            for job_id in replayed:
                await worker.job(job_id).wait()
        print(f"{len(replayed)} replayed")


def _filters(chosen: Namespace) -> DeadLetterFilters:
    filters = {name: getattr(chosen, name) for name in FILTERS}
    return cast(DeadLetterFilters, filters)


def _none_found(filters: DeadLetterFilters) -> str:
    return "No dead letters match." if any(filters.values()) else "No dead letters."


def _letter_row(letter: DeadLetterModel) -> list[str]:
    return [
        letter.id,
        format_time(letter.died_at),
        letter.task or "(unreadable)",
        f"{letter.error_type}: {first_line(letter.error)}",
    ]


def _describe(letter: DeadLetterModel) -> str:
    """Return every field of a dead letter. Sensitive arguments are masked."""
    arguments = json.loads(letter.arguments)
    for name in letter.sensitive:
        arguments[name] = MASK
    fields = letter.model_dump(mode="json", exclude={"traceback", "sensitive", "body"})
    fields["arguments"] = json.dumps(arguments)
    if letter.task is None:
        fields["body"] = letter.body.decode(errors="backslashreplace")
    lines = [f"{name}: {value}" for name, value in fields.items() if value is not None]
    return "\n".join([*lines, letter.traceback])


async def _schedules(worker: Worker, chosen: Namespace) -> None:
    schedules = worker.schedules
    if chosen.action == "list":
        views = await schedules.list()
        rows = [_schedule_row(view) for view in views if not chosen.ids or view.id in chosen.ids]
        _print_table(SCHEDULE_HEADINGS, rows, "No schedules.")
        return
    if not chosen.ids:
        problem = f"name the schedules to {chosen.action}"
        raise UserError(f"{problem}. `just schedules` lists their ids.")
    for schedule_id in chosen.ids:
        match chosen.action:
            case "run":
                job_id = await schedules.run_now(schedule_id)
                await _report(worker, f"{schedule_id} runs as", job_id)
            case "enable":
                await schedules.enable(schedule_id)
                print(f"{schedule_id} enabled")
            case "disable":
                await schedules.disable(schedule_id)
                print(f"{schedule_id} disabled")


def _schedule_row(view: ScheduleView) -> list[str]:
    state = "enabled" if view.enabled else "disabled"
    if view.problem:
        state = "broken"
    remark = ": ".join(filter(None, [view.name, view.problem]))
    return [
        view.id,
        state,
        format_time(view.next_run),
        format_time(view.last_run),
        view.status or "",
        view.trigger,
        remark,
    ]


def _print_table(headings: list[str], rows: Iterable[list[str]], if_empty: str) -> None:
    lines = format_table(headings, rows)
    for line in lines:
        print(line)
    if not lines:
        # Not to standard output, so a pipe stays empty.
        print(if_empty, file=sys.stderr)


async def _report(worker: Worker, action: str, job_id: str) -> None:
    """Print a new job's id. If the job runs in this process, wait until it has ended."""
    print(f"{action} job {job_id}")
    if worker.queue.engine.in_process:
        result = await worker.job(job_id).wait()
        print(f"job {job_id} {result.status}")


async def _history(worker: Worker, chosen: Namespace) -> None:
    runs = await worker.history.list(
        task=chosen.task,
        schedule=chosen.schedule,
        ended_as=chosen.ended_as,
        since=chosen.since,
        until=chosen.until,
        limit=chosen.limit,
    )
    _print_table(RUN_HEADINGS, map(_run_row, runs), "No runs in the history match.")


def _run_row(run: RunModel) -> list[str]:
    return [
        format_time(run.started_at),
        run.task,
        run.ended_as,
        str(run.seconds),
        run.job_id,
        first_line(run.error or ""),
    ]


async def _drain(worker: Worker, chosen: Namespace) -> int:
    engine = worker.queue.engine
    if engine.in_process:
        if chosen.check:
            return 0
        raise UserError("the job queue is off, so there are no jobs to drain")
    shown = ""
    while True:
        line, is_empty = await _count_jobs(worker)
        if chosen.check and not is_empty:
            print(LEFT.format(found=line), file=sys.stderr)
            return EXIT_JOBS_LEFT
        if line != shown:
            print(line, flush=True)
            shown = line
        if is_empty:
            return 0
        await asyncio.sleep(DRAIN_SECONDS)


async def _count_jobs(worker: Worker) -> tuple[str, bool]:
    """Return a line with the numbers of jobs in the queue, and whether it is empty."""
    stats = await worker.queue.engine.stats()
    stashed = await worker.dead_letters.count_stashed()
    line = f"{stats.pending} pending, {stats.running} running, {stats.scheduled} scheduled"
    if stashed:
        line += f", {stashed} dead letters to store"
    return line, not any((stats.pending, stats.running, stats.scheduled, stashed))


async def _admin(_: Worker, chosen: Namespace) -> None:
    try:
        email = EMAIL.validate_python(chosen.email)
    except ValidationError:
        raise UserError(f"{chosen.email!r} is not an email address") from None
    user = await make_admin(email, _read_password())
    print(f"{user.email} is an administrator with this password. Earlier sessions have ended.")


def _read_password() -> str:
    """Return the password that is typed twice, or the first line of a pipe."""
    if sys.stdin.isatty():
        password = getpass("Password: ")
        if password != getpass("Repeat the password: "):
            raise UserError("the passwords do not match. Nothing was changed.")
    else:
        password = sys.stdin.readline().rstrip("\n")
    try:
        return PASSWORD.validate_python(password)
    except ValidationError as error:
        problem = error.errors()[0]["msg"]
        raise UserError(f"the password is not valid: {problem}. Nothing was changed.") from None

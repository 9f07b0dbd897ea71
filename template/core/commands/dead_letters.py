"""The commands about jobs that failed for good."""

import json
from collections.abc import Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Annotated, Any

import typer

from core.commands import output
from core.commands.options import Json, Limit, ListByDefault, Since, Task, Until
from core.commands.running import audited, report_job, run
from core.errors import UserError

if TYPE_CHECKING:
    from core.models import DeadLetterModel
    from core.tasks import DeadLetterFilters, Worker

app = typer.Typer(
    name="dead-letters", cls=ListByDefault, help="Manage the jobs that failed for good."
)

LETTER_COLUMNS: output.Columns = {
    "ID": lambda letter: letter["id"],
    "TASK": lambda letter: letter["task"] or "(unreadable)",
    "ENDED": lambda letter: output.format_time(letter["died_at"]),
    "ERROR": lambda letter: f"{letter['error_type']}: {output.first_line(letter['error'])}",
}
REPLAYED = "dead_letter.replayed"
DISCARDED = "dead_letter.discarded"
IN_SHOW_ONLY = {"arguments", "body", "sensitive", "traceback"}

Error = Annotated[str | None, typer.Option(help="Only dead letters with this exception class.")]
Id = Annotated[list[str], typer.Argument(metavar="ID", help="The id of a dead letter.")]
Ids = Annotated[list[str] | None, typer.Argument(metavar="ID", help="The id of a dead letter.")]
All = Annotated[bool, typer.Option("--all", help="All dead letters that match the options.")]


@app.command("list")
def _list(
    limit: Limit = 100,
    error: Error = None,
    task: Task = None,
    since: Since = None,
    until: Until = None,
    as_json: Json = False,
) -> int:
    """Print one line for each dead letter, newest first."""
    filters: DeadLetterFilters = {"task": task, "error": error, "since": since, "until": until}

    async def act(worker: "Worker") -> None:
        found = await worker.dead_letters.list(limit=limit, brief=True, **filters)
        letters = [letter.model_dump(exclude=IN_SHOW_ONLY) for letter in found]
        output.print_list(letters, LETTER_COLUMNS, _none_found(filters), as_json)
        await _tell_what_is_left(worker, len(found), filters)

    return run(act)


async def _tell_what_is_left(worker: "Worker", shown: int, filters: "DeadLetterFilters") -> None:
    from core.tasks import QueueUnavailable

    total = await worker.dead_letters.count(**filters)
    if total > shown:
        output.tell(f"{shown} of {total}; --limit prints more")
    with suppress(QueueUnavailable):
        if stashed := await worker.dead_letters.count_stashed():
            output.tell(f"{stashed} more wait for a worker to store them in MongoDB")


@app.command("show")
def _show(ids: Id, as_json: Json = False) -> int:
    """Print dead letters with their arguments, errors and tracebacks."""

    async def act(worker: "Worker") -> None:
        letters = [describe(await worker.dead_letters.get(letter_id)) for letter_id in ids]
        if as_json:
            output.print_json(letters)
        for letter in [] if as_json else letters:
            letter["arguments"] = json.dumps(letter["arguments"])
            traceback = letter.pop("traceback")
            output.print_fields(letter)
            print(output.clean(traceback))

    return run(act)


def describe(letter: "DeadLetterModel") -> dict[str, Any]:
    """Return the fields of a dead letter for a person. Sensitive arguments are masked.

    Args:
        letter: The dead letter.
    """
    from core.tasks.dead_letters import masked_arguments

    fields: dict[str, Any] = letter.model_dump(exclude={"sensitive", "body"})
    fields["arguments"] = masked_arguments(letter)
    if letter.task is None:
        fields["body"] = letter.body.decode(errors="backslashreplace")
    return fields


@app.command("replay")
def _replay(
    ids: Ids = None,
    error: Error = None,
    task: Task = None,
    since: Since = None,
    until: Until = None,
    every: All = False,
) -> int:
    """Run the jobs of dead letters again, with their original arguments."""
    _check_choice("replay", ids, every)
    filters: DeadLetterFilters = {"task": task, "error": error, "since": since, "until": until}

    async def act(worker: "Worker") -> None:
        if not ids:
            await _replay_all(worker, filters)
            return
        async with audited(REPLAYED, ids) as changed:
            for letter_id in ids:
                job_id = await worker.dead_letters.replay(letter_id)
                changed.count += 1
                await report_job(worker, f"{letter_id} replayed as", job_id)

    return run(act, needs_tasks=True)


async def _replay_all(worker: "Worker", filters: "DeadLetterFilters") -> None:
    chosen = await _choose_all(worker, filters)
    if chosen is None:
        return
    replayed: list[str] = []
    async with audited(REPLAYED, **chosen) as changed:
        async for job_ids in worker.dead_letters.replay_many(**filters):
            replayed += job_ids
            changed.count = len(replayed)
            if changed.count < chosen["chosen"]:
                output.tell(f"{changed.count} of {chosen['chosen']} replayed")
    if worker.queue.engine.in_process:
        for job_id in replayed:
            await worker.job(job_id).wait()
    print(f"{len(replayed)} replayed")


@app.command("discard")
def _discard(
    ids: Ids = None,
    error: Error = None,
    task: Task = None,
    since: Since = None,
    until: Until = None,
    every: All = False,
) -> int:
    """Give up the jobs of dead letters, which can then no longer be replayed."""
    _check_choice("discard", ids, every)
    filters: DeadLetterFilters = {"task": task, "error": error, "since": since, "until": until}

    async def act(worker: "Worker") -> None:
        if not ids:
            await _discard_all(worker, filters)
            return
        async with audited(DISCARDED, ids) as changed:
            for letter_id in ids:
                await worker.dead_letters.discard(letter_id)
                changed.count += 1
                print(f"{letter_id} discarded")

    return run(act)


async def _discard_all(worker: "Worker", filters: "DeadLetterFilters") -> None:
    if chosen := await _choose_all(worker, filters):
        async with audited(DISCARDED, **chosen) as changed:
            changed.count = await worker.dead_letters.discard_many(**filters)
        print(f"{changed.count} discarded")


def _check_choice(action: str, ids: Sequence[str] | None, every: bool) -> None:
    if not ids and not every:
        options = "or choose them with --all and options such as --task"
        raise UserError(f"name the dead letters to {action}, {options}")


async def _choose_all(worker: "Worker", filters: "DeadLetterFilters") -> dict[str, Any] | None:
    """Return the facts for the audit log about all that match. If none does, tell the user."""
    from core.services.audit import MAX_NOTED

    total = await worker.dead_letters.count(**filters)
    if not total:
        output.tell(_none_found(filters))
        return None
    newest = await worker.dead_letters.list(limit=MAX_NOTED, brief=True, **filters)
    given = {name: value for name, value in filters.items() if value}
    return {"ids": [letter.id for letter in newest], "chosen": total, "filters": given}


def _none_found(filters: "DeadLetterFilters") -> str:
    return "No dead letters match." if any(filters.values()) else "No dead letters."

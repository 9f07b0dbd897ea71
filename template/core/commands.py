"""What a person does with jobs from the command line: look at dead letters, replay and discard them."""

import argparse
import asyncio
from datetime import UTC

from core.config import Settings
from core.errors import UserError
from core.models import DeadLetterModel, DeadLetterState
from core.service import load_service, open_service
from core.tasks import DeadLetters, Worker

AT_ONCE = 1000


def run_dead_letters(chosen: argparse.Namespace, settings: Settings) -> int:
    """Run one of these commands.

    Raises:
        UserError: A letter cannot be found or replayed, or none was chosen.
    """
    return asyncio.run(_run(chosen, settings))


async def _run(chosen: argparse.Namespace, settings: Settings) -> int:
    service = load_service(settings)
    async with open_service(service, settings) as database:
        database.require()
        letters = service.worker.dead_letters
        if chosen.action == "list":
            for letter in await _find(letters, chosen):
                print(_line(letter))
        elif chosen.action == "show":
            for letter_id in chosen.ids:
                print(_whole(await letters.get(letter_id)))
        else:
            await _decide(service.worker, chosen)
    return 0


async def _decide(worker: Worker, chosen: argparse.Namespace) -> None:
    letters = worker.dead_letters
    if not chosen.ids and not chosen.all:
        raise UserError(f"name the dead letters to {chosen.action}, or choose with --task, --error, ... and --all")
    ids = chosen.ids or [letter.id for letter in await _find(letters, chosen)]
    for letter_id in ids:
        if chosen.action == "replay":
            job = worker.job(await letters.replay(letter_id))
            print(f"{letter_id} replayed as job {job.id}")
            if worker.queue.engine.in_process:
                # It runs here, and would be lost if this process ended before it.
                print(f"job {job.id} {await job.ended()}")
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
    when = letter.died_at.astimezone(UTC).isoformat(timespec="seconds")
    error = (letter.error.splitlines() or [""])[0][:100]
    return f"{letter.id}  {when}  {letter.task or '(unreadable)'}  {letter.error_type}: {error}"


def _whole(letter: DeadLetterModel) -> str:
    fields = letter.model_dump(mode="json", exclude={"traceback"})
    lines = [f"{name}: {value}" for name, value in fields.items() if value is not None]
    return "\n".join([*lines, letter.traceback])

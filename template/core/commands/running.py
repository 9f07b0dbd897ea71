"""The start of a command, which opens the settings, the servers and the worker."""

import asyncio
import gc
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias

# Each function imports only the modules that its commands need, so a command starts fast.
if TYPE_CHECKING:
    from core.config import Settings
    from core.database import Database
    from core.tasks import Worker

Action: TypeAlias = "Callable[[Worker], Awaitable[int | None]]"
"""The work of a command. It returns the exit status; None means 0."""


def read_settings() -> "Settings":
    """Return the settings; if `just dev` runs, with the URLs of its servers.

    Raises:
        UserError: A setting is missing or wrong, or no server is running.
    """
    from core.config import get_settings
    from core.local_servers import use_running_servers

    use_running_servers()
    return get_settings()


def run(action: Action, *, needs_tasks: bool = False) -> int:
    """Run a command with an open worker.

    Args:
        action: The work of the command.
        needs_tasks: Whether it needs the tasks and the documents of `app`. Their import takes
            longer than the rest of a command.

    Returns:
        The exit status.

    Raises:
        UserError: The command failed; the message says why.
    """
    gc.disable()  # until the worker is open: a tenth of the time that the imports take
    from core.logging import configure_logging

    settings = read_settings()
    configure_logging(settings, "command", is_command=True)
    return asyncio.run(_run(action, settings, needs_tasks))


async def _run(action: Action, settings: "Settings", needs_tasks: bool) -> int:
    from pymongo.errors import ConnectionFailure

    from core.database import summarize_error
    from core.tasks.time_limits import leave_abandoned

    open_ = _open_service if needs_tasks else _open_core
    async with open_(settings) as (worker, database):
        database.require()
        gc.enable()
        try:
            status = await action(worker)
        except ConnectionFailure as error:
            raise database.unavailable(summarize_error(error)) from error
    leave_abandoned()
    return status or 0


@asynccontextmanager
async def _open_service(settings: "Settings") -> "AsyncIterator[tuple[Worker, Database]]":
    from core.entry import load_service, open_service

    service = load_service(settings)
    async with open_service(service, settings) as database:
        yield service.worker, database


@asynccontextmanager
async def _open_core(settings: "Settings") -> "AsyncIterator[tuple[Worker, Database]]":
    from core.database import open_database
    from core.models import DOCUMENTS
    from core.tasks import Worker

    worker = Worker()
    async with (
        open_database(settings, DOCUMENTS) as database,
        worker.open(settings, runs_jobs=False),
    ):
        yield worker, database


@dataclass
class Changed:
    """The number of things that a command has changed so far."""

    count: int = 0


@asynccontextmanager
async def audited(
    action: str, ids: Sequence[str], *, chosen: int | None = None, **details: Any
) -> AsyncIterator[Changed]:
    """Run a block, and note in the audit log what it has changed, even if it fails.

    Args:
        action: The action, as the console names it.
        ids: The ids of the chosen things.
        chosen: The number of chosen things. Defaults to the number of ids.
        **details: More facts for the audit log.
    """
    from core.context import TaskContext
    from core.services.audit import MAX_NOTED, audit_log

    changed = Changed()
    with TaskContext.use():
        try:
            yield changed
        finally:
            number = len(ids) if chosen is None else chosen
            noted = {**details, "ids": ids[:MAX_NOTED]}
            await audit_log(action, chosen=number, changed=changed.count, **noted)


async def report_job(worker: "Worker", action: str, job_id: str) -> None:
    """Print the id of a new job. If the job runs in this process, wait until it has ended.

    Args:
        worker: The open worker.
        action: The words before the id, such as `hourly runs as`.
        job_id: The job's id.
    """
    print(f"{action} job {job_id}")
    if worker.queue.engine.in_process:
        result = await worker.job(job_id).wait()
        print(f"job {job_id} {result.status}")

"""The checks of `just doctor`. A server that is down is a finding, and skips only its checks."""

from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Literal

from beanie import Document
from beanie.odm.fields import IndexModelField
from beanie.odm.utils.pydantic import get_model_fields
from beanie.odm.utils.typing import get_index_attributes
from pymongo import IndexModel
from pymongo.errors import ConnectionFailure, PyMongoError

from core.commands.output import first_line
from core.commands.running import read_settings
from core.config import Settings
from core.database import Database, open_database, summarize_error
from core.entry import load_service
from core.errors import UserError
from core.logging import configure_logging
from core.migrations import list_applied, list_migrations
from core.models import DOCUMENTS
from core.tasks import Worker
from core.tasks.backlog import HINT, judge_backlog

CLOCK_SECONDS = 2.0
"""A larger difference between two clocks is a warning."""
WRONG_CLOCK_SECONDS = 30.0
"""A larger difference is a problem: sessions, tokens and retries end too soon or too late."""

State = Literal["ok", "warning", "problem"]


@dataclass(frozen=True, slots=True)
class Finding:
    """The result of a check.

    Attributes:
        state: `ok`, `warning` or `problem`.
        check: The thing that was checked.
        text: The result in words.
        next_step: The next thing to do, or empty.
    """

    state: State
    check: str
    text: str
    next_step: str = ""


@dataclass(frozen=True, slots=True)
class _Service:
    """The open parts of a service."""

    settings: Settings
    documents: Sequence[type[Document]]
    worker: Worker
    database: Database


Check = Callable[[_Service], AsyncIterator[Finding]]


async def examine() -> list[Finding]:
    """Run all checks, and return what they found."""
    try:
        settings = read_settings()
    except UserError as error:
        hint = "Correct this first. The other checks need it."
        return [Finding("problem", "settings", str(error), hint)]
    quiet = settings.model_copy(update={"log_level": "CRITICAL"})  # the findings say the same
    configure_logging(quiet, "command")
    findings = [Finding("ok", "settings", f"ENVIRONMENT is {settings.environment}")]
    documents: Sequence[type[Document]] = DOCUMENTS
    worker = Worker()
    try:
        service = load_service(settings)
        documents, worker = service.all_documents(), service.worker
    except UserError as error:
        hint = "Correct the code. No process can start until then."
        findings.append(Finding("problem", "code", first_line(str(error)), hint))
    async with AsyncExitStack() as stack:
        database = await stack.enter_async_context(
            open_database(settings, documents, makes_indexes=False)
        )
        try:
            await stack.enter_async_context(worker.open(settings, runs_jobs=False))
        except UserError as error:
            hint = "Correct this setting."
            return [*findings, Finding("problem", "settings", str(error), hint)]
        parts = _Service(settings, documents, worker, database)
        for checks in CHECKS:
            for check in checks:
                found, is_down = await _run(check, parts)
                findings += found
                if is_down:
                    break
    return findings


async def _run(check: Check, parts: _Service) -> tuple[list[Finding], bool]:
    """Return what a check finds, and whether its server is down."""
    name = check.__name__.removeprefix("_check_").replace("mongodb", "MongoDB")
    try:
        return [finding async for finding in check(parts)], False
    except (UserError, ConnectionFailure) as error:
        hint = "Start the server, or correct its address in the settings."
        return [Finding("problem", name, summarize_error(error), hint)], True
    except PyMongoError as error:
        hint = "Give the missing right to the user of MONGODB_URL."
        return [Finding("problem", name, summarize_error(error), hint)], False


async def _check_mongodb(parts: _Service) -> AsyncIterator[Finding]:
    await parts.database.ping()
    admin = parts.database.client.admin
    build: dict[str, Any] = await admin.command("buildInfo")
    yield Finding("ok", "MongoDB", f"version {build['version']}")
    sent = datetime.now(UTC)
    answer: dict[str, Any] = await admin.command("hello")
    middle = sent + (datetime.now(UTC) - sent) / 2
    if "setName" not in answer and answer.get("msg") != "isdbgrid":  # the answer of a cluster
        hint = "Make it a replica set; one member is enough. Transactions need one."
        yield Finding("problem", "MongoDB", "the server is not part of a replica set", hint)
    now = answer["localTime"].replace(tzinfo=UTC)  # PyMongo returns UTC without a zone
    yield judge_clock("MongoDB", (now - middle).total_seconds())


def judge_clock(server: str, ahead: float) -> Finding:
    """Judge the clock of a server.

    Args:
        server: The server, for people.
        ahead: Seconds by which the clock is ahead of this machine's.
    """
    difference = f"{abs(ahead):.1f} s {'ahead of' if ahead > 0 else 'behind'} this machine's"
    text = f"the clock of {server} is {difference}"
    if abs(ahead) < CLOCK_SECONDS:
        return Finding("ok", "clock", text)
    state: State = "problem" if abs(ahead) >= WRONG_CLOCK_SECONDS else "warning"
    return Finding(state, "clock", text, "Synchronize both clocks, for example with chrony.")


async def _check_indexes(parts: _Service) -> AsyncIterator[Finding]:
    expected: dict[str, set[str]] = {}
    for document in parts.documents:
        collection = document.get_pymongo_collection().name
        expected.setdefault(collection, {"_id_"}).update(_find_names(document))
    database = parts.database.client[parts.database.name]
    missing, extra = [], []
    for collection, names in expected.items():
        existing = set(await database[collection].index_information())
        missing += [f"{collection}.{name}" for name in sorted(names - existing)]
        extra += [f"{collection}.{name}" for name in sorted(existing - names)]
    missing = [each for each in missing if not each.endswith("._id_")]
    if missing:
        hint = "Restart a web process or a worker: its start makes the indexes."
        yield Finding("problem", "indexes", f"missing: {', '.join(missing)}", hint)
    if extra:
        hint = "Drop them, unless you made them yourself. Each index costs time and memory."
        yield Finding("warning", "indexes", f"not declared: {', '.join(extra)}", hint)
    if not missing and not extra:
        yield Finding("ok", "indexes", f"complete in {len(expected)} collections")


def _find_names(document: type[Document]) -> set[str]:
    """Return the names of the indexes that Beanie makes for a document."""
    indexes = []
    for name, field in get_model_fields(document).items():
        if attributes := get_index_attributes(field):
            direction, options = attributes
            indexes.append(
                IndexModelField(IndexModel([(field.alias or name, direction)], **options))
            )
    declared = document.get_settings().indexes or []
    return {index.name for index in IndexModelField.merge_indexes(indexes, declared)}


async def _check_migrations(_: _Service) -> AsyncIterator[Finding]:
    applied = await list_applied()
    pending = [each.name for each in list_migrations() if each.name not in applied]
    if pending:
        text = f"not applied: {', '.join(pending)}"
        yield Finding("warning", "migrations", text, "Run `just migrate`.")
    else:
        yield Finding("ok", "migrations", "all are applied")


async def _check_workers(parts: _Service) -> AsyncIterator[Finding]:
    if parts.worker.queue.engine.in_process:
        yield Finding("ok", "workers", "jobs run in the web process")
    elif workers := await parts.worker.workers():
        hosts = ", ".join(f"{each.host} ({each.pid})" for each in workers)
        yield Finding("ok", "workers", f"{len(workers)} alive: {hosts}")
    else:
        hint = "Start one with `just worker`, or with `just dev`."
        yield Finding("problem", "workers", "no worker is alive, so no job runs", hint)


async def _check_alerts(parts: _Service) -> AsyncIterator[Finding]:
    for alert in await parts.worker.alerts.list():
        text = f"{alert.title}: {first_line(alert.text)}"
        place = parts.worker.alerts.find_url(alert.kind) or "the logs of the workers"
        hint = f"Look at {place}"
        yield Finding("warning", "alerts", text, hint)


async def _check_schedules(parts: _Service) -> AsyncIterator[Finding]:
    broken = parts.worker.schedules.broken
    for each in broken:
        hint = "Correct the declaration in app/tasks, and restart the workers."
        yield Finding("problem", "schedules", f"{each.id} is broken: {each.problem}", hint)
    if not broken:
        yield Finding("ok", "schedules", "no schedule is broken")


async def _check_queue(parts: _Service) -> AsyncIterator[Finding]:
    condition = await parts.worker.queue.engine.check()
    if parts.worker.queue.engine.in_process:
        yield Finding("ok", "queue", "off; jobs are lost if the web process is killed")
        return
    yield Finding("ok", "queue", condition.server or "the server does not report its version")
    if condition.clock_ahead is not None:
        yield judge_clock("the queue's server", condition.clock_ahead)
    warnings = await parts.worker.monitor.check()
    for warning in warnings:
        hint = "Read core/docs/queue-server.md."
        yield Finding("warning", "queue", warning, hint)
    if condition.persists is not None and not warnings:
        keeps = "keeps" if condition.persists else "loses"
        yield Finding("ok", "persistence", f"the queue's server {keeps} jobs when it restarts")


async def _check_backlog(parts: _Service) -> AsyncIterator[Finding]:
    if parts.worker.queue.engine.in_process:
        return  # the jobs are in the web process
    verdict = await judge_backlog(parts.worker.queue.engine, parts.settings)
    if verdict.is_late:
        yield Finding("warning", "backlog", verdict.reason, HINT)
    else:
        yield Finding("ok", "backlog", verdict.reason)
    if stashed := await parts.worker.dead_letters.count_stashed():
        text = f"{stashed} wait in the queue until a worker stores them in MongoDB"
        yield Finding(
            "warning", "dead letters", text, "Start a worker. If one is running, look at its log."
        )


CHECKS: tuple[tuple[Check, ...], ...] = (
    (_check_mongodb, _check_indexes, _check_migrations, _check_workers, _check_alerts),
    (_check_schedules,),
    (_check_queue, _check_backlog),
)
"""The checks, in groups. If a server is down, the rest of its group is skipped."""

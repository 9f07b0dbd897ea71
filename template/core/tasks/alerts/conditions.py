"""The conditions that raise alerts. Each function returns keys, titles and texts."""

import os
import socket
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import TypeAlias

from core.config import Settings
from core.models import AlertModel, ScheduleModel
from core.tasks.backlog import judge_backlog
from core.tasks.dead_letters import DeadLetters
from core.tasks.engine import Engine
from core.tasks.heartbeat import find_workers

Found: TypeAlias = Sequence[tuple[str, str, str]]
Condition: TypeAlias = Callable[[], Awaitable[Found]]
Conditions: TypeAlias = Mapping[str, Condition]

NO_WORKER = "no_worker"
NEW = timedelta(days=7)
"""An error of a task is new if none of its open dead letters is older."""
MAX_GROUPED = 1_000_000
"""The largest number of open dead letters that a check counts. It counts the newest ones."""
LATE_SECONDS = 300
"""A schedule is late if no worker has fired it this long after its time."""
MISSING_SECONDS = 60
"""An alert is raised if no worker has been alive for this time, because a restart takes a while."""
TEXT_LENGTH = 300


def make_conditions(
    engine: Engine,
    settings: Settings,
    schedules: Collection[str],
    dead_letters: DeadLetters,
) -> Conditions:
    """Return the conditions by kind. If `no_worker` is found, the rest is not checked."""
    conditions: dict[str, Condition] = {"dead_letters": partial(_find_dead_letters, dead_letters)}
    if not engine.in_process:
        conditions[NO_WORKER] = _find_no_worker
    conditions["backlog"] = partial(_find_backlog, engine, settings)
    conditions["schedule"] = partial(_find_schedules, schedules)
    return conditions


async def _find_dead_letters(dead_letters: DeadLetters) -> Found:
    """Find tasks with a new error, and those errors for which an alert is open."""
    query = {"kind": "dead_letters", "ended_at": None}
    told = await AlertModel.get_pymongo_collection().distinct("key", query)
    oldest = datetime.now(UTC) - NEW
    found = []
    for group in await dead_letters.groups(limit=MAX_GROUPED):
        key = f"{group.task} {group.error}"
        if group.first >= oldest or key in told:
            last = await dead_letters.list(
                limit=1,
                brief=True,
                task=group.task,
                error=group.error,
            )
            error = " ".join(last[0].error.split())[:TEXT_LENGTH] if last else ""
            count = f"{group.count:,} dead letter{'s' * (group.count != 1)}"
            title = f"{group.task or 'A message that cannot be read'} fails with {group.error}"
            found.append((key, title, f"{count}, the latest one: {group.error}: {error}"))
    return found


async def _find_backlog(engine: Engine, settings: Settings) -> Found:
    verdict = await judge_backlog(engine, settings)
    # With the engine `local`, each process has its own queue.
    key = f"{socket.gethostname()} {os.getpid()}" if engine.in_process else settings.queue_name
    return [(key, "The workers do not keep up", verdict.text)] if verdict.is_late else []


async def _find_schedules(schedules: Collection[str]) -> Found:
    oldest = {"$subtract": ["$$NOW", LATE_SECONDS * 1000]}
    is_late = {"next_run": {"$ne": None}, "$expr": {"$lt": ["$next_run", oldest]}}
    wrong = [is_late, {"missed_run": {"$ne": None}}, {"last_status": "failed"}]
    query = {"_id": {"$in": list(schedules)}, "enabled": True, "$or": wrong}
    found = []
    async for each in ScheduleModel.get_pymongo_collection().find(query):
        title, text = "its last run failed", f"Job {each.get('last_ended_job')} failed for good."
        if each.get("last_status") != "failed":
            due = each.get("missed_run") or each["next_run"]
            title, text = "it missed its time", f"No worker ran it at {due:%Y-%m-%d %H:%M} UTC."
        found.append((each["_id"], f"Schedule {each['_id']}: {title}", text))
    return found


async def _find_no_worker() -> Found:
    if await find_workers(MISSING_SECONDS):
        return []
    text = "No worker is alive, so no job runs. Start one with python -m core worker."
    return [("workers", "No worker is alive", text)]

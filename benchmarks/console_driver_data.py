"""Fills the servers of `console.py` with jobs, dead letters, runs, figures and audit entries."""

import random
import secrets
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple

from app.main import service
from app.tasks.console import nothing
from core.config import get_settings
from core.entry import open_service
from core.models import AuditModel, DeadLetterModel, MinuteModel, RunModel, UserModel
from core.services.sessions import start_session
from core.web.auth import COOKIE

BATCH = 10_000
SELECTED = 50
"""The number of rows of a page, which a person can select."""

RUNS = 300_000
AUDIT_ENTRIES = 100_000
USERS = 200
DAYS = 14
WORKERS = 2
HOUR = timedelta(hours=1)
MINUTE = timedelta(minutes=1)
TASKS = [f"task_{number:02}" for number in range(20)]
ERRORS = ["TimeoutError", "ConnectionError", "ValueError", "KeyError", "CardDeclined"]
TRACEBACK = "".join(
    f'  File "app/services/part_{number}.py", line {number}, in send\n    await send(part)\n'
    for number in range(20)
)
"""A traceback that is about as long as a traceback in a service."""

Row = dict[str, Any]


class Found(NamedTuple):
    """The ids for the pages of single things, and the cookie of an administrator."""

    cookie: str
    letter: str
    jobs: list[str]
    user: str
    schedule: str


async def fill(pending: int, letters: int) -> Found:
    """Fill the servers.

    Args:
        pending: The number of pending jobs.
        letters: The number of dead letters.
    """
    async with open_service(service, get_settings()):
        admin = UserModel(email="ada@example.com", display_name="Ada", is_admin=True)
        await admin.insert()
        jobs = await nothing.enqueue_many([[0]] * SELECTED)
        for done in range(SELECTED, pending, BATCH):
            await nothing.enqueue_many([[1]] * min(BATCH, pending - done))
        await insert(DeadLetterModel, make_letters(letters))
        await insert(RunModel, make_runs())
        await insert(AuditModel, make_entries(str(admin.id)))
        await insert(MinuteModel, make_minutes())
        cookie = f"{COOKIE}={await start_session(admin)}"
        schedule = next(iter(service.worker.check(get_settings()).valid))
        ids = [job.id for job in jobs]
        return Found(cookie, f"letter-{letters - 1}", ids, str(admin.id), schedule)


async def insert(model: Any, rows: Iterator[Row]) -> None:
    collection = model.get_pymongo_collection()
    batch: list[Row] = []
    for row in rows:
        batch.append(row)
        if len(batch) == BATCH:
            await collection.insert_many(batch, ordered=False)
            batch = []
    if batch:
        await collection.insert_many(batch, ordered=False)


def random_past(days: float) -> datetime:
    return datetime.now(UTC) - timedelta(days=days * random.random())


def make_letters(count: int) -> Iterator[Row]:
    body = secrets.token_bytes(400)
    for number in range(count):
        error_type = random.choice(ERRORS)
        error = f"order {number} was refused by host-{number % 50}.example.com"
        died_at = random_past(30)
        yield {
            "_id": f"letter-{number}",
            "job_id": secrets.token_hex(16),
            "task": random.choice(TASKS),
            "arguments": f'{{"order": {number}, "user": "user-{number % USERS}"}}',
            "sensitive": [],
            "body": body,
            "error_type": error_type,
            "error": error,
            "traceback": f"Traceback (most recent call last):\n{TRACEBACK}{error_type}: {error}\n",
            "attempts": 4,
            "correlation_id": secrets.token_hex(16),
            "owner": f"user-{number % USERS}",
            "enqueued_at": died_at - timedelta(minutes=5),
            "died_at": died_at,
            "state": "dead",
            "replayed_as": None,
            "traceparent": None,
        }


def make_runs() -> Iterator[Row]:
    for number in range(RUNS):
        started_at = random_past(1)
        yield {
            "job_id": secrets.token_hex(16),
            "task": random.choice(TASKS),
            "schedule": None,
            "attempt": 1,
            "ended_as": random.choices(["completed", "retried", "failed"], [90, 7, 3])[0],
            "error": None,
            "started_at": started_at,
            "seconds": random.random(),
            "correlation_id": secrets.token_hex(16),
            "owner": f"user-{number % USERS}",
            "worker": f"worker-{number % 4}",
            "sampled": 1,
            "expires_at": started_at + timedelta(days=1, hours=1),
        }


def make_entries(admin: str) -> Iterator[Row]:
    for _ in range(AUDIT_ENTRIES):
        yield {
            "action": "job.replayed",
            "actor": admin,
            "subject": None,
            "details": {"job_id": secrets.token_hex(16)},
            "correlation_id": secrets.token_hex(16),
            "at": random_past(300),
        }


def make_minutes() -> Iterator[Row]:
    """Return the figures of each minute and hour in which the workers ran jobs of all tasks."""
    now = datetime.now(UTC).replace(minute=0, second=0, microsecond=0)
    for hour in range(DAYS * 24):
        start = now - hour * HOUR
        for worker in range(WORKERS):
            yield make_figures(start, 60, f"worker-{worker}")
            for minute in range(60):
                yield make_figures(start + minute * MINUTE, 1, f"worker-{worker}")


def make_figures(start: datetime, minutes: int, worker: str) -> Row:
    rows = [
        {
            "task": task,
            "completed": 60 * minutes,
            "retried": minutes,
            "d4": 40 * minutes,
            "d6": 21 * minutes,
            "w1": 60 * minutes,
        }
        for task in TASKS
    ]
    return {
        "start": start,
        "minutes": minutes,
        "worker": worker,
        "tasks": rows,
        "expires_at": start + timedelta(days=DAYS),
    }

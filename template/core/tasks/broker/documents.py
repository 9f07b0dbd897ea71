"""The form of a job in MongoDB, and the collections of a queue."""

import secrets
from collections.abc import AsyncIterator, Iterable, Mapping
from contextlib import asynccontextmanager
from enum import StrEnum
from typing import Any

import pymongo
from bson.errors import BSONError
from pydantic_core import from_json, to_json
from pymongo import ASCENDING, IndexModel, WriteConcern
from pymongo.asynchronous.collection import AsyncCollection
from pymongo.errors import PyMongoError

from core.database import open_client, summarize_error
from core.logging import get_logger
from core.tasks.broker.broker import Ticket
from core.tasks.engine import RANKS
from core.tasks.errors import QueueUnavailable
from core.tasks.records import JobRecord, JobStatus, RecordFields, Slots, dump_rest

logger = get_logger(__name__)

JobDocument = dict[str, Any]
"""A job. `_id` is its id, `place` a `Place`, `body` its message, and `rank` its priority.

The job may run from the time `due`. `added` orders jobs that are due at the same time. After the
time `lease`, the job's ticket counts as lost, or the worker that runs the job as dead. `rest` is
the part of the record that the queue does not read, as JSON. The record's other fields are fields
of the document.
"""
Collection = AsyncCollection[JobDocument]
JOBS = "queue_jobs"
"""The name of the collection of jobs."""

OPERATION_SECONDS = 8.0
"""If a few calls take longer, MongoDB counts as down. There is still time to renew a lease then."""
LEASE_SECONDS = 20.0
"""After this time without a sign of life, a worker counts as dead, and its jobs run again."""
TICKET_SECONDS = 10.0
"""After this time, the ticket of a job that has not begun may count as lost."""
_PRIORITIES = {rank: priority for priority, rank in RANKS.items()}
UNFINISHED = {"$nin": [status.value for status in JobStatus if status.is_final]}
TICKET_FIELDS = {"task": 1, "rank": 1}
HAS_EXPIRED = {"$and": [{"$gt": ["$expires_at", None]}, {"$lte": ["$expires_at", "$$NOW"]}]}
"""An expression: the document has expired, but MongoDB has not removed it yet."""
_OWN = ("state", "fence", "deliveries", "blocked", "abort", "worker")


class Place(StrEnum):
    """The place of a job in the queue. Unlike its state, users do not see it."""

    STAGE = "stage"
    """The job is a later stage of a chain, and has no message yet."""
    LATER = "later"
    """The job is not due yet, or waits for a slot of a limit."""
    DUE = "due"
    """The job may run. It has a ticket, unless the ticket was lost."""
    RUNNING = "running"
    ENDED = "ended"


def _index(place: Place, *order: str) -> IndexModel:
    names = [(name, ASCENDING) for name in ("place", *order)]
    return IndexModel(names, name=place.value, partialFilterExpression={"place": place.value})


INDEXES = [
    _index(Place.DUE, "rank", "due", "added"),
    _index(Place.LATER, "due", "added"),
    _index(Place.RUNNING, "lease"),
    IndexModel(
        [("waits", ASCENDING), ("rank", ASCENDING), ("added", ASCENDING)],
        name="waits",
        partialFilterExpression={"waits": {"$type": "string"}},
    ),
    IndexModel([("expires_at", ASCENDING)], name="expires_at", expireAfterSeconds=0),
]


class Collections:
    """The collections of a queue.

    Args:
        database: The name of the database.
    """

    def __init__(self, database: str) -> None:
        self._database = database

    @property
    def jobs(self) -> Collection:
        """The jobs."""
        return self._open(JOBS)

    @property
    def places(self) -> Collection:
        """The jobs, for changes that need not survive a crash of MongoDB.

        If such a change is lost, a job that had begun is due again, and runs a second time.
        """
        return self.jobs.with_options(write_concern=WriteConcern(w=1))

    @property
    def letters(self) -> Collection:
        """The stashed dead letters."""
        return self._open("queue_letters")

    @property
    def slots(self) -> Collection:
        """For each key of a limit, the jobs that hold a slot."""
        return self._open("queue_slots")

    @property
    def keys(self) -> Collection:
        """For each unique key, the claim of the job that holds it."""
        return self._open("queue_keys")

    def _open(self, name: str) -> Collection:
        return open_client()[self._database][name]

    async def make_indexes(self) -> None:
        """Create the indexes, unless they exist.

        Raises:
            QueueUnavailable: MongoDB cannot be reached.
        """
        async with reaching(OPERATION_SECONDS * 10):
            await self.jobs.create_indexes(INDEXES)
            await self.keys.create_index("expires_at", expireAfterSeconds=0)


@asynccontextmanager
async def reaching(seconds: float = OPERATION_SECONDS) -> AsyncIterator[None]:
    """Limit the time of a block of calls, and turn errors of MongoDB into `QueueUnavailable`.

    Args:
        seconds: The time limit.
    """
    try:
        with pymongo.timeout(seconds):
            yield
    except (PyMongoError, BSONError) as error:
        reason = summarize_error(error)
        raise QueueUnavailable(f"the jobs in MongoDB cannot be reached: {reason}") from error


def after(seconds: float) -> Mapping[str, Any]:
    """Return an expression for a later time, by the server's clock.

    Args:
        seconds: The time from now.
    """
    return {"$add": ["$$NOW", round(seconds * 1000)]}


def encodable(ids: Iterable[str]) -> list[str]:
    """Return ids in a form that MongoDB accepts. A client may ask for an id that is not valid text.

    Args:
        ids: The ids.
    """
    return [each.encode(errors="replace").decode() for each in ids]


def make_fields(record: RecordFields) -> JobDocument:
    """Return the part of a document that holds the record.

    Args:
        record: The record's fields.
    """
    fields: JobDocument = {name: record[name] for name in _OWN if name in record}  # type: ignore[literal-required]
    if progress := record.get("progress"):
        fields["progress"] = to_json(progress)
    return {**fields, "task": record.get("task", ""), "rest": dump_rest(record)}


def load_record(document: Mapping[str, Any] | None) -> JobRecord:
    """Return the record of a job. If it cannot be read, its state is `unknown`; its fence is kept.

    Args:
        document: The job's document, or None.
    """
    if document is None:
        return JobRecord()
    try:
        fields = {**from_json(document["rest"])}
        fields |= {name: document[name] for name in _OWN if name in document}
        if progress := document.get("progress"):
            fields["progress"] = from_json(progress)
        return JobRecord.from_fields(fields)
    except (ValueError, TypeError, KeyError, RecursionError) as error:
        problem = str(error).partition("\n")[0]
        logger.warning("record cannot be read", job_id=str(document["_id"]), error=problem)
        fence = document.get("fence", 0)
        return JobRecord(fence=fence if isinstance(fence, int) else 0)


def read_slots(document: Mapping[str, Any]) -> Slots:
    """Return the slots that a job holds or waits for.

    Args:
        document: The job's document.
    """
    return {each["key"]: each["most"] for each in document.get("slots") or []}


def make_ticket(job_id: str, task: str, rank: int) -> Ticket:
    """Return a new ticket of a job.

    Args:
        job_id: The job's id.
        task: The name of the task.
        rank: The rank of the priority.
    """
    return Ticket(job_id, task, _PRIORITIES[rank], secrets.randbits(32))


def read_tickets(documents: Iterable[JobDocument]) -> list[Ticket]:
    """Return new tickets of jobs.

    Args:
        documents: The jobs' documents, with at least `TICKET_FIELDS`.
    """
    return [make_ticket(each["_id"], each["task"], each["rank"]) for each in documents]

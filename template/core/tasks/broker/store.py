"""The jobs of a queue, in MongoDB. The methods move jobs from one place to another."""

import asyncio
import json
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any

from bson import ObjectId
from bson.errors import InvalidId
from pymongo import UpdateMany
from pymongo.asynchronous.client_session import AsyncClientSession
from pymongo.errors import BulkWriteError

from core.database import open_client
from core.tasks.broker.broker import Ticket
from core.tasks.broker.documents import (
    HAS_EXPIRED,
    LEASE_SECONDS,
    TICKET_FIELDS,
    TICKET_SECONDS,
    UNFINISHED,
    Collections,
    JobDocument,
    Place,
    after,
    load_record,
    make_fields,
    make_ticket,
    reaching,
    read_slots,
    read_tickets,
)
from core.tasks.engine import RANKS, SUSPECT_DELIVERIES, BadPosition, Delivery, Listed, Stats
from core.tasks.errors import QueueUnavailable
from core.tasks.outcome import FOLLOWING_SECONDS, Ended, Envelope, Outcome, Retry
from core.tasks.records import STAGE, JobStatus, RecordFields, StashedLetter, dump_rest, merge

ADD_BATCH = 500
DUPLICATE_KEY = 11000
MESSAGE_FIELDS = ["body", "due", "lease", "token", "slots", "waits"]
"""The fields that a job loses when it ends. Its record stays."""
SETTLE_BYTES = 4 * 1024**2
"""The size of the records in one write. MongoDB takes a write of at most 16 MiB."""
DIFFERENT = ("settled", "rest")
"""The fields that differ between jobs that end in the same way."""
ORDER = ("rank", "due", "added")
"""The order in which workers take jobs."""
LATER_ORDER = ("due", "added")
PLACES = {
    JobStatus.PENDING: Place.DUE,
    JobStatus.SCHEDULED: Place.LATER,
    JobStatus.RUNNING: Place.RUNNING,
}


@dataclass(slots=True, eq=False)
class Run:
    """A delivery of a job to this process, and its outcome.

    Attributes:
        outcome: How the run ended; None while it runs.
        token: Written to the job's document with the outcome. If MongoDB's answer was lost, the
            token shows whether the outcome was recorded.
        keys: The keys of the slots that the job holds or has asked for.
        missing: The key that had no free slot, or None.
        is_over: Set when this process has recorded the outcome, or has given it up.
    """

    delivery: Delivery
    rank: int
    outcome: Outcome | None = None
    token: ObjectId = field(default_factory=ObjectId)
    keys: set[str] = field(default_factory=set)
    missing: str | None = None
    is_over: asyncio.Event = field(default_factory=asyncio.Event)

    @property
    def query(self) -> JobDocument:
        """The query for the job. It finds nothing if the job has ended or was delivered again."""
        record = self.delivery.record
        query: JobDocument = {"_id": self.delivery.id, "fence": record.fence}
        if self.delivery.is_begun:  # after a crash of MongoDB, two runs may have the same fence
            query["worker"] = record.worker
        else:  # somebody may have aborted it
            query["place"] = Place.DUE
        if self.outcome and self.outcome.fields:
            query["state"] = UNFINISHED
        return query

    def list_tickets(self) -> Iterator[Ticket]:
        """Yield the tickets that the outcome needs."""
        outcome = self.outcome
        if isinstance(outcome, Retry) and outcome.after <= 0:
            yield make_ticket(self.delivery.id, self.delivery.record.task, self.rank)
        elif isinstance(outcome, Ended) and outcome.next_stage:
            stage = outcome.next_stage
            yield make_ticket(stage.id, stage.record["task"], RANKS[stage.priority])


class Store:
    """The jobs of a queue. Each method raises `QueueUnavailable` if MongoDB cannot be reached.

    Args:
        database: The name of the database.
        worker: The name of this process as a worker.
    """

    def __init__(self, database: str, worker: str) -> None:
        self.collections = Collections(database)
        self._worker = worker
        self._failed: list[ObjectId] = []

    async def add(self, envelopes: Sequence[Envelope]) -> list[Ticket]:
        """Add jobs, and return the tickets of the due jobs. A job that exists is unchanged.

        Args:
            envelopes: The messages with their records.
        """
        made: dict[str, JobDocument] = {}
        for envelope in envelopes:
            for document in _make_documents(envelope):
                made.setdefault(document["_id"], document)  # two callers may add the same job
        documents = [*made.values()]
        known: set[str] = set()
        for start in range(0, len(documents), ADD_BATCH):
            async with reaching():
                known |= await self._add(documents[start : start + ADD_BATCH])
        due = (each for each in documents if each["place"] == Place.DUE)
        return read_tickets(each for each in due if each["_id"] not in known)

    async def _add(self, documents: list[JobDocument]) -> set[str]:
        """Insert documents, and return the ids of the ones that existed before."""
        known = await self._insert(documents)
        if not known:
            return known
        # MongoDB removes expired documents once a minute.
        ids = {"_id": {"$in": [*known]}}
        await self.collections.jobs.delete_many({**ids, "$expr": HAS_EXPIRED})
        return await self._insert([each for each in documents if each["_id"] in known])

    async def _insert(self, documents: list[JobDocument]) -> set[str]:
        """Insert documents, and return the ids of the ones that existed before."""
        try:
            await self.collections.jobs.insert_many(documents, ordered=False)
        except BulkWriteError as error:
            errors = error.details["writeErrors"]
            if any(each["code"] != DUPLICATE_KEY for each in errors):
                raise
            return {each["op"]["_id"] for each in errors}
        return set()

    async def begin(self, ids: Sequence[str]) -> dict[str, Run]:
        """Begin the delivery of jobs, and return the runs that this process must handle.

        A job is left out if it does not exist, is not due, or runs already. A suspect, or a job
        that has ended, is returned too, but its delivery has not begun.

        Args:
            ids: The jobs' ids.
        """
        token = ObjectId()
        chosen = {"_id": {"$in": [*ids]}}
        fit = {"deliveries": {"$lt": SUSPECT_DELIVERIES}, "blocked": 0}
        query = {**chosen, "place": Place.DUE, "state": UNFINISHED, **fit}
        try:
            async with reaching():
                jobs = self.collections.places
                await jobs.update_many(query, [{"$set": {**self._begun(), "token": token}}])
                found = jobs.find({**chosen, "$or": [{"token": token}, {"place": Place.DUE}]})
                runs = [_deliver(each, token) async for each in found]
        except QueueUnavailable:
            self._failed.append(token)
            raise
        return {run.delivery.id: run for run in runs if run}

    async def begin_suspect(self, job_id: str, fence: int | None) -> JobDocument | None:
        """Begin the delivery of one job, unless it has ended or another delivery has begun.

        Args:
            job_id: The job's id.
            fence: The fence that the job must have; None for any.

        Returns:
            The job after this call, or None if it does not exist.
        """
        query: JobDocument = {"_id": job_id, "state": UNFINISHED}
        if fence is not None:
            query["fence"] = fence
        async with reaching():
            jobs = self.collections.jobs
            await jobs.update_one(query, [{"$set": self._begun()}])
            return await jobs.find_one({"_id": job_id})

    def _begun(self) -> JobDocument:
        return {
            "place": Place.RUNNING,
            "state": "running",
            "worker": self._worker,
            "progress": None,
            "fence": {"$add": ["$fence", 1]},
            "deliveries": {"$add": ["$deliveries", 1]},
            "lease": after(LEASE_SECONDS),
        }

    async def renew(self, ids: Sequence[str]) -> None:
        """Renew the leases of jobs that this process runs.

        Args:
            ids: The jobs' ids.
        """
        query = {"_id": {"$in": [*ids]}, "place": Place.RUNNING, "worker": self._worker}
        async with reaching():
            change = [{"$set": {"lease": after(LEASE_SECONDS)}}]
            await self.collections.places.update_many(query, change)

    async def settle(self, runs: Sequence[Run]) -> list[bool]:
        """Record how runs ended. This can be repeated safely.

        Args:
            runs: The runs.

        Returns:
            For each run, whether its end was recorded: False if another delivery has begun.
        """
        alone = [run for run in runs if not _has_more(run.outcome)]
        settled = await self._settle_alone(alone) if alone else {}
        for run in runs:
            if run not in alone:
                settled[run.delivery.id] = await self._settle_together(run)
        return [settled[run.delivery.id] for run in runs]

    async def _settle_alone(self, runs: list[Run]) -> dict[str, bool]:
        """Settle runs whose outcomes change nothing but their jobs."""
        writes = [*_write_changes(runs)]
        async with reaching():
            done = await self.collections.jobs.bulk_write(writes, ordered=False)
            if done.matched_count == len(runs):
                return {run.delivery.id: True for run in runs}
            return {run.delivery.id: await self._is_settled(run) for run in runs}

    async def _is_settled(self, run: Run, session: AsyncClientSession | None = None) -> bool:
        query = {"_id": run.delivery.id, "settled": run.token}
        return bool(await self.collections.jobs.count_documents(query, session=session))

    async def _settle_together(self, run: Run) -> bool:
        """Settle a run: change its job, other stages of its chain and dead letters in one step."""
        outcome = run.outcome
        assert isinstance(outcome, Ended)

        async def change(session: AsyncClientSession) -> bool:
            jobs = self.collections.jobs
            done = await jobs.update_one(run.query, _finish(_change(run)), session=session)
            if not done.matched_count:
                return await self._is_settled(run, session)
            if outcome.dead_letter:
                await self._stash(outcome.dead_letter, session)
            if outcome.next_stage:
                await self._continue(outcome.next_stage, session)
            for job_id, fields in outcome.stopped.items():
                await self._stop(job_id, fields, outcome.ttl, session)
            return True

        async with reaching(), open_client().start_session() as session:
            return await session.with_transaction(change)

    async def _stash(self, letter: StashedLetter, session: AsyncClientSession) -> None:
        change = {"$set": {"letter": json.dumps(letter)}}
        letters = self.collections.letters
        await letters.update_one({"_id": letter["id"]}, change, upsert=True, session=session)

    async def _continue(self, stage: Envelope, session: AsyncClientSession) -> None:
        """Give a stage its message. An aborted stage gets it too: it names the stages after it."""
        (document,) = _make_documents(replace(stage, following={}))
        jobs = self.collections.jobs
        waiting = {"_id": document.pop("_id"), "place": Place.STAGE}
        message = {name: document[name] for name in ("body", "place", "due", "lease", "rank")}
        aborted = await jobs.update_one(
            {**waiting, "state": "aborted"}, {"$set": message}, session=session
        )
        if aborted.matched_count:
            return
        change = {"$set": document, "$unset": {"expires_at": ""}}
        pending = await jobs.update_one(waiting, change, session=session)
        if not pending.matched_count:  # the record of the stage has expired, or it has begun
            lost = {"_id": waiting["_id"]}
            change = {"$setOnInsert": document}
            await jobs.update_one(lost, change, upsert=True, session=session)

    async def _stop(
        self, job_id: str, fields: RecordFields, ttl: float, session: AsyncClientSession
    ) -> None:
        query = {"_id": job_id, "state": UNFINISHED}
        ended = {**make_fields(fields), "place": Place.ENDED, "expires_at": after(ttl)}
        await self.collections.jobs.update_one(query, _end(ended), session=session)

    async def take_due(self, limit: int) -> list[Ticket]:
        """Move due jobs from the place `later` to the place `due`, and return their tickets.

        Args:
            limit: The largest number of jobs.
        """
        query = {"place": Place.LATER, "$expr": {"$lte": ["$due", "$$NOW"]}}
        return await self.start(query, limit)

    async def take_abandoned(self, limit: int) -> list[Ticket]:
        """Make the jobs of dead workers due again, and return their tickets.

        Args:
            limit: The largest number of jobs.
        """
        query = {"place": Place.RUNNING, "$expr": {"$lt": ["$lease", "$$NOW"]}}
        return await self.start(query, limit, state="pending", worker=None)

    async def take_unanswered(self, limit: int) -> list[Ticket]:
        """Put back jobs whose delivery to this process began, but whose answer was lost.

        These deliveries do not count. Return the tickets of the jobs.

        Args:
            limit: The largest number of jobs.
        """
        failed = [*self._failed]
        if not failed:
            return []
        query = {"place": Place.RUNNING, "worker": self._worker, "token": {"$in": failed}}
        deliveries = {"$subtract": ["$deliveries", 1]}
        tickets = await self.start(
            query, limit, state="pending", worker=None, deliveries=deliveries
        )
        if not tickets:
            self._failed = [token for token in self._failed if token not in failed]
        return tickets

    async def take_lost(self, known: int, limit: int) -> list[Ticket]:
        """Return new tickets for due jobs whose tickets the broker has lost.

        Args:
            known: The number of tickets that the broker has.
            limit: The largest number of jobs.
        """
        async with reaching():
            due = await self.collections.jobs.count_documents({"place": Place.DUE})
        missing = min(due - known, limit)
        if missing <= 0:
            return []
        # The process that added a job set the lease, and its clock may be ahead.
        is_late = {"$lt": ["$lease", "$$NOW"]}
        is_wrong = {"$gt": ["$lease", after(TICKET_SECONDS)]}
        query = {"place": Place.DUE, "$expr": {"$or": [is_late, is_wrong]}}
        return await self.start(query, missing, ORDER, due="$due")

    async def start(
        self,
        query: JobDocument,
        limit: int,
        order: Sequence[str] = LATER_ORDER,
        **changes: Any,
    ) -> list[Ticket]:
        """Make jobs due, and return the tickets of the jobs that this call has changed.

        Args:
            query: Finds the jobs.
            limit: The largest number of jobs.
            order: The order in which they are found, and of their tickets.
            **changes: Further fields to set.
        """
        token = ObjectId()
        due = {"due": "$$NOW", "lease": after(TICKET_SECONDS), "waits": None}
        change = {"place": Place.DUE, **due, "token": token, **changes}
        async with reaching():
            jobs = self.collections.places
            sort = [(name, 1) for name in order]
            found = await jobs.find(query, {"_id": 1}).sort(sort).limit(limit).to_list()
            if not found:
                return []
            ids = [each["_id"] for each in found]
            chosen = {"_id": {"$in": ids}}
            await jobs.update_many({**query, **chosen}, [{"$set": change}])
            changed = jobs.find({**chosen, "token": token}, TICKET_FIELDS)
            started = {each["_id"]: each async for each in changed}
            return read_tickets(started[job_id] for job_id in ids if job_id in started)

    async def abort(self, job_id: str, ttl: float) -> JobDocument | None:
        """Abort a job that has not begun, or mark a running one.

        A stage that has its message keeps it, so that a worker stops the stages after it.

        Args:
            job_id: The job's id.
            ttl: Seconds until the record of an aborted job expires.

        Returns:
            The job as it was before, or None if this call did not abort it.
        """
        aborted = {"state": "aborted", "expires_at": {"$max": ["$expires_at", after(ttl)]}}
        change = _end({**aborted, "place": Place.ENDED})
        if STAGE.fullmatch(job_id):
            change = [{"$set": aborted}]
        waits = {"$in": [Place.DUE, Place.LATER, Place.STAGE]}
        async with reaching():
            jobs = self.collections.jobs
            query = {"_id": job_id, "place": waits, "state": UNFINISHED}
            before = await jobs.find_one_and_update(query, change)
            if before is None:
                running = {"_id": job_id, "place": Place.RUNNING}
                await jobs.update_one(running, {"$set": {"abort": True}})
        return before

    async def stats(self) -> Stats:
        """Return how full the queue is."""
        jobs = self.collections.jobs
        async with reaching():
            due = await jobs.count_documents({"place": Place.DUE})
            later = await jobs.count_documents({"place": Place.LATER})
            running = await jobs.count_documents({"place": Place.RUNNING})
            oldest = [await self._measure_oldest(rank) for rank in RANKS.values() if due]
        return Stats(due, running, later, max(oldest, default=0.0))

    async def browse(
        self, status: JobStatus, after: str | None, limit: int
    ) -> tuple[list[Listed], str | None]:
        """Return a page of jobs, and the position of the next page; see `Engine.browse`.

        Args:
            status: `pending`, `running` or `scheduled`.
            after: The position, or None.
            limit: The largest number of jobs.
        """
        order = LATER_ORDER if status is JobStatus.SCHEDULED else ORDER
        query: JobDocument = {"place": PLACES[status]}
        if after:
            query |= _find_after(order, _parse(after))
        async with reaching():
            found = self.collections.jobs.find(query, {"body": 0})
            sort = [(name, 1) for name in order]
            jobs = await found.sort(sort).limit(limit + 1).to_list()
        records = [(each, load_record(each)) for each in jobs[:limit]]
        page = [
            Listed(each["_id"], record, each["due"].timestamp())
            for each, record in records
            if not record.state.is_final
        ]
        return page, _position(jobs[limit - 1]) if len(jobs) > limit else None

    async def ping(self) -> None:
        """Check that MongoDB answers."""
        async with reaching():
            await open_client().admin.command("ping")

    async def _measure_oldest(self, rank: int) -> float:
        """Return for how many seconds the oldest due job of a priority has been due."""
        found = await self.collections.jobs.aggregate(
            [
                {"$match": {"place": Place.DUE, "rank": rank}},
                {"$sort": {"due": 1}},
                {"$limit": 1},
                {"$project": {"age": {"$subtract": ["$$NOW", "$due"]}}},
            ],
        )
        return max([each["age"] / 1000 async for each in found], default=0.0)


def _make_documents(envelope: Envelope) -> Iterator[JobDocument]:
    """Yield the document of a job, and the documents of the later stages of its chain."""
    now = time.time()
    counts = {"fence": 0, "deliveries": 0, "blocked": 0}
    new = {**counts, "rank": RANKS[envelope.priority], "added": ObjectId()}
    yield {
        "_id": envelope.id,
        "body": envelope.body,
        "place": Place.DUE if envelope.at is None else Place.LATER,
        "due": _date(now if envelope.at is None else envelope.at),
        "lease": _date(now + TICKET_SECONDS),
        **new,
        **make_fields(envelope.record),
    }
    for job_id, record in envelope.following.items():
        expires_at = _date(now + FOLLOWING_SECONDS)
        stage = {"_id": job_id, "place": Place.STAGE, "expires_at": expires_at}
        yield {**stage, **new, **make_fields(record)}


def _position(document: JobDocument) -> str:
    milliseconds = round(document["due"].timestamp() * 1000)
    return f"{document['rank']} {milliseconds} {document['added']}"


def _parse(position: str) -> JobDocument:
    try:
        rank, milliseconds, added = position.split(" ")
        due = _date(int(milliseconds) / 1000)
        return {"rank": int(rank), "due": due, "added": ObjectId(added)}
    except (ValueError, OverflowError, OSError, InvalidId):
        raise BadPosition from None


def _find_after(order: Sequence[str], place: JobDocument) -> JobDocument:
    """Return a query for the jobs after a position, in an order of several fields."""
    cases = []
    for number, name in enumerate(order):
        same = {each: place[each] for each in order[:number]}
        cases.append({**same, name: {"$gt": place[name]}})
    return {"$or": cases}


def _date(seconds: float) -> datetime:
    return datetime.fromtimestamp(seconds, UTC)


def _deliver(document: JobDocument, token: ObjectId) -> Run | None:
    """Return a run, or None if the job has just become due and so has another ticket."""
    record = load_record(document)
    is_begun = document.get("token") == token
    is_suspect = record.deliveries >= SUSPECT_DELIVERIES or record.blocked > 0
    if not (is_begun or is_suspect or record.state.is_final):
        return None
    is_suspect = is_suspect and not record.state.is_final and not is_begun
    delivery = Delivery(document["_id"], document["body"], record, is_begun, is_suspect)
    return Run(delivery, document["rank"], keys={*read_slots(document)})


def _has_more(outcome: Outcome | None) -> bool:
    """Return whether an outcome changes more than the job's document."""
    if not isinstance(outcome, Ended):
        return False
    return bool(outcome.dead_letter or outcome.next_stage or outcome.stopped)


def _change(run: Run) -> JobDocument:
    """Return the fields that a run sets in its job's document."""
    outcome = run.outcome
    assert outcome
    changes: JobDocument = {"settled": run.token, "worker": None}
    if fields := outcome.fields:
        counts = {
            name: value for name, value in fields.items() if name in ("deliveries", "blocked")
        }
        rest = dump_rest(merge(run.delivery.record, fields))
        changes |= {"state": fields["state"], "rest": rest, **counts}
    if isinstance(outcome, Ended):
        expires = {"expires_at": after(outcome.ttl)} if fields else {}
        return {**changes, **expires, "place": Place.ENDED}
    if outcome.after > 0:
        later = {"place": Place.LATER, "due": after(outcome.after), "waits": run.missing}
        return {**changes, **later}
    return {**changes, "place": Place.DUE, "due": "$$NOW", "lease": after(TICKET_SECONDS)}


def _write_changes(runs: Sequence[Run]) -> Iterator[UpdateMany]:
    """Yield the writes that settle runs. Runs share a write if they differ only in `DIFFERENT`.

    MongoDB takes half as long for one write to ten jobs as for ten writes.
    """
    groups: dict[tuple[str, int], list[tuple[Run, JobDocument]]] = {}
    size = 0
    for run in runs:
        changes = _change(run)
        size += len(changes.get("rest", b""))
        same = {name: value for name, value in changes.items() if name not in DIFFERENT}
        key = (repr((same, _guard(run))), size // SETTLE_BYTES)
        groups.setdefault(key, []).append((run, changes))
    for group in groups.values():
        ids = [run.delivery.id for run, _ in group]
        fences = _choose(ids, [run.delivery.record.fence for run, _ in group])
        changes = {
            name: _choose(ids, [each[name] for _, each in group]) if name in DIFFERENT else value
            for name, value in group[0][1].items()
        }
        chosen = {"_id": {"$in": ids}, "$expr": {"$eq": ["$fence", fences]}}
        yield UpdateMany({**chosen, **_guard(group[0][0])}, _finish(changes))


def _guard(run: Run) -> JobDocument:
    """Return the part of a run's query that several runs may share."""
    return {name: value for name, value in run.query.items() if name not in ("_id", "fence")}


def _choose(ids: list[str], values: list[Any]) -> JobDocument:
    """Return an expression for the value of a job, given the values of several jobs."""
    return {"$arrayElemAt": [{"$literal": values}, {"$indexOfArray": [{"$literal": ids}, "$_id"]}]}


def _finish(changes: JobDocument) -> list[Mapping[str, Any]]:
    return _end(changes) if changes["place"] == Place.ENDED else [{"$set": changes}]


def _end(changes: JobDocument) -> list[Mapping[str, Any]]:
    return [{"$set": changes}, {"$unset": MESSAGE_FIELDS}]

"""Records of jobs in MongoDB, for the engines whose tickets a broker carries."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from typing import Any

from pydantic_core import to_json
from pymongo import AsyncMongoClient
from pymongo.errors import DuplicateKeyError, PyMongoError

from core.config import Settings
from core.database import summarize_error
from core.tasks.broker.broker import Ticket
from core.tasks.broker.documents import (
    HAS_EXPIRED,
    JOBS,
    OPERATION_SECONDS,
    UNFINISHED,
    JobDocument,
    Place,
    after,
    encodable,
    load_record,
    reaching,
    read_slots,
)
from core.tasks.broker.slots import SlotStore
from core.tasks.broker.store import Run, Store
from core.tasks.errors import QueueUnavailable
from core.tasks.records import JobRecord, ProgressFields, Slots

STASH_BATCH = 50
WITHOUT_BODY = {"body": 0}

Send = Callable[[Sequence[Ticket]], Awaitable[None]]


class StoredRecords:
    """See `core.tasks.records.Records`.

    Args:
        store: The jobs of the queue.
        slots: The slots of the queue.
        runs: The jobs that run in this process, by id.
        send: Sends tickets.
        settings: The service's settings.
        worker: The name of this process as a worker.
    """

    def __init__(
        self,
        store: Store,
        slots: SlotStore,
        runs: Mapping[str, Run],
        send: Send,
        settings: Settings,
        worker: str,
    ) -> None:
        self._store = store
        self._collections = store.collections
        self._slots = slots
        self._runs = runs
        self._send = send
        self._url = str(settings.mongodb_url)
        self._database = settings.mongodb_database
        self._worker = worker

    async def read(self, ids: list[str]) -> list[JobRecord]:
        names = encodable(ids)
        async with reaching():
            query = {"_id": {"$in": names}, "$expr": {"$not": [HAS_EXPIRED]}}
            jobs = self._collections.jobs.find(query, WITHOUT_BODY)
            found = {each["_id"]: each async for each in jobs}
        return [load_record(found.get(name)) for name in names]

    async def begin(self, job_id: str, fence: int | None = None) -> JobRecord:
        return load_record(await self._store.begin_suspect(job_id, fence))

    async def acquire(self, job_id: str, fence: int, slots: Slots) -> int | None:
        missing = await self._slots.acquire(job_id, fence, slots)
        if run := self._runs.get(job_id):
            run.keys |= set(slots)
            run.missing = missing
        return await self._slots.count_waiting(missing) if missing else None

    def blame(self, job_id: str) -> None:
        asyncio.run(self._blame(job_id))

    async def _blame(self, job_id: str) -> None:
        # The shared client belongs to the event loop, which may be blocked. So this opens another.
        here = [{"place": {"$ne": Place.RUNNING}}, {"worker": self._worker}]
        query = {"_id": job_id, "state": UNFINISHED, "$or": here}
        milliseconds = int(OPERATION_SECONDS * 1000)
        try:
            async with AsyncMongoClient[JobDocument](
                self._url, serverSelectionTimeoutMS=milliseconds, timeoutMS=milliseconds
            ) as client:
                jobs = client[self._database][JOBS]
                await jobs.update_one(query, {"$inc": {"blocked": 1}})
        except PyMongoError as error:
            raise QueueUnavailable(summarize_error(error)) from error

    async def write_progress(self, job_id: str, progress: ProgressFields, fence: int) -> bool:
        query = {"_id": job_id, "place": Place.RUNNING, "fence": fence}
        async with reaching():
            change = {"$set": {"progress": to_json(progress)}}
            return bool((await self._collections.jobs.update_one(query, change)).matched_count)

    async def request_abort(self, job_id: str, ttl: float) -> bool:
        (name,) = encodable([job_id])
        before = await self._store.abort(name, ttl)
        if before is None:
            return False
        # If the job is a scheduled stage, a worker takes it now, and stops the stages after it.
        tickets = await self._store.start({"_id": name, "place": Place.LATER}, 1)
        given = await self._slots.give_back(name, None, read_slots(before))
        await self._send([*tickets, *given])
        return True

    async def claim(self, claims: dict[str, str], ttl: float) -> dict[str, str]:
        async with reaching():
            return {key: await self._claim(key, claim, ttl) for key, claim in claims.items()}

    async def _claim(self, key: str, claim: str, ttl: float) -> str:
        keys = self._collections.keys
        wanted = {"claim": claim, "expires_at": after(ttl)}
        is_free = {"$lte": ["$expires_at", "$$NOW"]}
        while True:
            found = await keys.find_one({"_id": key}, {"claim": 1, "is_free": is_free})
            if found and not found["is_free"] and not await self._has_ended(found["claim"]):
                return str(found["claim"])
            former = found["claim"] if found else {"$exists": False}
            try:
                query = {"_id": key, "claim": former}
                await keys.update_one(query, [{"$set": wanted}], upsert=True)
            except DuplicateKeyError:
                continue  # another job has claimed the key since
            return claim

    async def _has_ended(self, claim: str) -> bool:
        """Return whether the holder has ended. A holder without a record is being enqueued."""
        _, _, job_id = claim.partition(" ")
        (record,) = await self.read([job_id])
        return record.state.is_final

    async def stashed(self) -> AsyncIterator[dict[str, str]]:
        last: Any = None
        while True:
            query = {} if last is None else {"_id": {"$gt": last}}
            async with reaching():
                found = self._collections.letters.find(query).sort("_id").limit(STASH_BATCH)
                letters = await found.to_list()
            if not letters:
                return
            yield {each["_id"]: each["letter"] for each in letters}
            last = letters[-1]["_id"]

    async def count_stashed(self) -> int:
        async with reaching():
            return await self._collections.letters.count_documents({})

    async def unstash(self, letter_ids: list[str]) -> None:
        async with reaching():
            await self._collections.letters.delete_many({"_id": {"$in": letter_ids}})

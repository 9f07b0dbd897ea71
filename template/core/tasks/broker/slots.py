"""The slots of limits, in MongoDB: for each key, the runs that hold a slot.

A job that finds no free slot waits in the line of one full key, which its document names in
`waits`. A process that gives a slot of this key back starts the first jobs in the line.

A run is named by its job and its fence, so a process that is late changes no slot of a later run.
"""

from collections.abc import Iterable, Mapping
from typing import TypedDict

from pymongo.errors import DuplicateKeyError

from core.tasks.broker.broker import Ticket
from core.tasks.broker.documents import UNFINISHED, JobDocument, Place, reaching, read_slots
from core.tasks.broker.store import Store
from core.tasks.records import Slots

LINE_BATCH = 100
LINE = [("rank", 1), ("added", 1)]


class Holder(TypedDict):
    """A run that holds a slot, or that is about to begin."""

    job: str
    fence: int


class SlotStore:
    """The slots of a queue. Each method raises `QueueUnavailable` if MongoDB cannot be reached.

    Args:
        store: The jobs of the queue.
    """

    def __init__(self, store: Store) -> None:
        self._store = store
        self._collections = store.collections

    async def acquire(self, job_id: str, fence: int, slots: Slots) -> str | None:
        """Let a run take all of its slots, or none of them.

        Args:
            job_id: The job's id.
            fence: The fence of the run.
            slots: The slots.

        Returns:
            None, or the first key that has no free slot.
        """
        run: Holder = {"job": job_id, "fence": fence}
        needed = [{"key": key, "most": most} for key, most in slots.items()]
        async with reaching():
            query = {"_id": job_id, "fence": fence}
            change = {"$set": {"slots": needed}}
            before = await self._collections.jobs.find_one_and_update(query, change)
            if before is None:
                return next(iter(slots))  # another delivery has begun
            former = read_slots(before)
            if former != slots:  # it may hold slots of a limit that has changed
                await self._release(run, former)
            return await self._hold(run, slots)

    async def count_waiting(self, key: str) -> int:
        """Return the number of jobs in the line of a key.

        Args:
            key: The key.
        """
        async with reaching():
            query = {"place": Place.LATER, "waits": key}
            return await self._collections.jobs.count_documents(query)

    async def _hold(self, run: Holder, slots: Slots) -> str | None:
        """Hold all slots, or none of them. Return the first key that has no free slot."""
        holders = await self._read_holders(slots)
        full = await self._find_full(run, slots, holders)
        return full or await self._hold_free(run, slots)

    async def _hold_free(self, run: Holder, slots: Slots) -> str | None:
        """Hold slots that were free a moment ago. Return the first key that is full by now."""
        held: list[str] = []
        for key, most in sorted(slots.items()):  # in one order, so two jobs cannot block each other
            if not await self._hold_one(run, key, most):
                await self._release(run, held)
                return key
            held.append(key)
        return None

    async def _read_holders(self, keys: Iterable[str]) -> dict[str, list[Holder]]:
        names = [*keys]
        found = self._collections.slots.find({"_id": {"$in": names}})
        return {name: [] for name in names} | {each["_id"]: each["holders"] async for each in found}

    async def _find_full(
        self, run: Holder, slots: Slots, holders: dict[str, list[Holder]]
    ) -> str | None:
        """Return the first key without a free slot, without taking a slot of another key."""
        for key, most in sorted(slots.items()):
            others = [each for each in holders[key] if each != run]
            if len(others) >= most:
                holders[key] = await self._drop_ended(key, others)
                if len(holders[key]) >= most:
                    return key
        return None

    async def _hold_one(self, run: Holder, key: str, most: int) -> bool:
        has_place = {f"holders.{most - 1}": {"$exists": False}}
        query = {"_id": key, "$or": [{"holders": run}, has_place]}
        try:
            change = {"$addToSet": {"holders": run}}
            await self._collections.slots.update_one(query, change, upsert=True)
        except DuplicateKeyError:  # the key exists, and has no free slot
            return False
        return True

    async def _drop_ended(self, key: str, holders: list[Holder]) -> list[Holder]:
        """Release the slots of runs that have ended, and return the other holders."""
        query = {"_id": {"$in": [each["job"] for each in holders]}, "state": UNFINISHED}
        found = self._collections.jobs.find(query, {"fence": 1, "place": 1})
        jobs = {each["_id"]: each async for each in found}
        lost = [each for each in holders if _has_ended(each, jobs.get(each["job"]))]
        if lost:  # their worker died, or could not reach MongoDB
            change = {"$pullAll": {"holders": lost}}
            await self._collections.slots.update_one({"_id": key}, change)
        return [each for each in holders if each not in lost]

    async def _release(self, run: Mapping[str, object], keys: Iterable[str]) -> None:
        if names := [*keys]:
            query = {"_id": {"$in": names}}
            await self._collections.slots.update_many(query, {"$pull": {"holders": run}})
            await self._collections.slots.delete_many({**query, "holders": []})

    async def give_back(self, job_id: str, fence: int | None, keys: Iterable[str]) -> list[Ticket]:
        """Give slots of a run back, and return the tickets of the jobs that get them.

        Args:
            job_id: The job's id.
            fence: The fence of the run; None for all runs of the job.
            keys: The keys of the slots.
        """
        names = [*keys]
        run: dict[str, object] = {"job": job_id}
        if fence is not None:
            run["fence"] = fence
        async with reaching():
            await self._release(run, names)
        return [ticket for key in names for ticket in await self.give(key)]

    async def give(self, key: str) -> list[Ticket]:
        """Start the first jobs in the line of a key, until one finds the key full.

        Args:
            key: The key.

        Returns:
            The tickets of the jobs.
        """
        tickets: list[Ticket] = []
        line = {"place": Place.LATER, "waits": key}
        has_more = True
        while has_more:
            async with reaching():
                found = self._collections.jobs.find(line, {"slots": 1, "fence": 1}).sort(LINE)
                jobs = await found.limit(LINE_BATCH).to_list()
                has_more = await self._give_some(key, jobs, tickets) and len(jobs) == LINE_BATCH
        return tickets

    async def _give_some(self, key: str, jobs: list[JobDocument], tickets: list[Ticket]) -> bool:
        """Start jobs until the key is full, add their tickets; return whether slots are left."""
        needed = {job["_id"]: read_slots(job) for job in jobs}
        holders = await self._read_holders({name for slots in needed.values() for name in slots})
        moves: dict[str, list[str]] = {}
        is_full = False
        for job in jobs:
            job_id = job["_id"]
            slots = needed[job_id]
            run: Holder = {"job": job_id, "fence": job["fence"] + 1}  # its next run
            full = await self._find_full(run, slots, holders)
            is_full = full == key
            if is_full:
                break
            if full:  # it moves to the line of the other key
                moves.setdefault(full, []).append(job_id)
            elif await self._hold_free(run, slots) is None:
                tickets += await self._start(run, key, slots)
                holders |= await self._read_holders(slots)
        for full, ids in moves.items():
            query = {"_id": {"$in": ids}, "place": Place.LATER, "waits": key}
            await self._collections.jobs.update_many(query, {"$set": {"waits": full}})
        return not is_full

    async def _start(self, run: Holder, key: str, slots: Slots) -> list[Ticket]:
        job_id = run["job"]
        started = await self._store.start({"_id": job_id, "place": Place.LATER, "waits": key}, 1)
        if not started:
            job = await self._collections.jobs.find_one({"_id": job_id}, {"place": 1})
            # Either another process has started the job, or somebody has aborted it.
            if not job or job["place"] in (Place.LATER, Place.ENDED):
                await self._release(run, slots)
        return started


def _has_ended(run: Holder, job: JobDocument | None) -> bool:
    """Return whether a run has ended, given its unfinished job, or None if the job has ended."""
    if job is None:
        return True
    newest: int = job["fence"]
    if job["place"] == Place.LATER:
        return run["fence"] <= newest  # a job that waits is between two runs
    return run["fence"] < newest

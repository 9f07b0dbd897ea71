"""Records and dead letters that a test writes, on any engine."""

import json
from importlib import import_module
from typing import Any

from core.tasks import Worker
from core.tasks.engines import DEFAULT
from core.tasks.engines.local import MemoryRecords
from core.tasks.records import JobStatus, RecordFields, StashedLetter, merge

ENDED = {status for status in JobStatus if status.is_final}


async def write_record(worker: Worker, job_id: str, fields: RecordFields) -> None:
    """Set fields of a record that has not ended, as another worker or a forger may have done.

    Args:
        worker: The open worker.
        job_id: The job's id.
        fields: The fields to set.
    """
    records: Any = worker.queue.engine.records
    if isinstance(records, MemoryRecords):
        await records.write(job_id, fields, None)
    elif DEFAULT == "redis":
        await _write_to_redis(records, job_id, fields)
    else:
        await _write_to_mongodb(records, job_id, fields)


async def _write_to_redis(records: Any, job_id: str, fields: RecordFields) -> None:
    # A service has only the modules of one engine.
    form = import_module("core.tasks.engines.redis.records")
    key = records._client.record_key(job_id)

    async def change(pipeline: Any) -> None:
        stored = await pipeline.get(key)
        status = stored.split()[0].decode() if stored and "state" not in fields else None
        changed = form.dump(merge(form.load(job_id, stored), fields), status)
        pipeline.multi()
        pipeline.set(key, changed)

    async with records._client.open() as redis:
        await redis.transaction(change, key)


async def _write_to_mongodb(records: Any, job_id: str, fields: RecordFields) -> None:
    form = import_module("core.tasks.broker.documents")
    jobs = records._collections.jobs
    record = form.load_record(await jobs.find_one({"_id": job_id}))
    changed = form.make_fields(merge(record, fields))
    if changed["state"] in ENDED:
        changed["place"] = form.Place.ENDED
    await jobs.update_one({"_id": job_id}, {"$set": changed}, upsert=True)


async def stash_letters(worker: Worker, letters: list[StashedLetter]) -> None:
    """Stash dead letters of jobs that do not exist.

    Args:
        worker: The open worker.
        letters: The dead letters.
    """
    records: Any = worker.queue.engine.records
    texts = {letter["id"]: json.dumps(letter) for letter in letters}
    if isinstance(records, MemoryRecords):
        records._stashed.update(texts)
    elif DEFAULT == "redis":
        async with records._client.open() as redis:
            await redis.hset(records._client.stashed, mapping=texts)
    else:
        documents = [{"_id": key, "letter": text} for key, text in texts.items()]
        await records._collections.letters.insert_many(documents)

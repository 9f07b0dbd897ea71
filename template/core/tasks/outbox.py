"""The outbox: it keeps the jobs that are enqueued in a MongoDB transaction until the commit.

The transaction itself stores these jobs, so they exist if and only if it commits. The process that
committed relays them to the queue at once. If it cannot, a worker relays them.
"""

import json
from collections.abc import Awaitable, Callable, Iterable, Mapping
from typing import Any

from pymongo.asynchronous.client_session import AsyncClientSession

from core.logging import get_logger
from core.models import OutboxModel
from core.tasks.outcome import Envelope
from core.tasks.records import JobStatus, RecordFields

logger = get_logger(__name__)

RELAY_BATCH = 500

Publish = Callable[[Iterable[Envelope]], Awaitable[None]]
"""Puts messages into the queue, as `Engine.publish`."""


async def store(session: AsyncClientSession, envelopes: Iterable[Envelope]) -> None:
    """Store messages in a transaction.

    Args:
        session: The transaction's session.
        envelopes: The messages.
    """
    rows = [_to_row(envelope) for envelope in envelopes]
    if rows:
        await OutboxModel.insert_many(rows, session=session)


async def relay(publish: Publish) -> None:
    """Put committed messages into the queue, the oldest first.

    A process may end after it published messages and before it deleted their rows. Another process
    then publishes them again. The job's id makes the job run once. A document that cannot be read
    stays, with its `problem`, and does not block the others.

    Args:
        publish: Puts messages into the queue.
    """
    collection = OutboxModel.get_pymongo_collection()
    waiting = collection.find({"problem": None}).sort("_id").limit(RELAY_BATCH)
    while documents := await waiting.to_list():
        envelopes: dict[Any, Envelope] = {}
        for document in documents:
            try:
                envelopes[document["_id"]] = _to_envelope(document)
            except (ValueError, LookupError, TypeError, AttributeError, RecursionError) as error:
                row_id, problem = document["_id"], f"{type(error).__name__}: {error}"
                unread = {"_id": row_id, "problem": None}
                marked = await collection.update_one(unread, {"$set": {"problem": problem}})
                if marked.modified_count:  # another process may read it at the same time
                    logger.error("job in the outbox cannot be read", id=str(row_id), error=problem)
        await publish([*envelopes.values()])
        await collection.delete_many({"_id": {"$in": list(envelopes)}})
        waiting = waiting.clone()


def _to_row(envelope: Envelope) -> OutboxModel:
    records = {envelope.id: envelope.record, **envelope.following}
    return OutboxModel(
        job_id=envelope.id,
        body=envelope.body,
        records=json.dumps(records),
        at=envelope.at,
        priority=envelope.priority,
    )


def _to_envelope(document: Mapping[str, Any]) -> Envelope:
    row = OutboxModel.model_validate(document)
    following: dict[str, RecordFields] = json.loads(row.records)
    for fields in following.values():
        JobStatus(fields["state"])
    record = following.pop(row.job_id)
    return Envelope(
        id=row.job_id,
        body=row.body,
        record=record,
        at=row.at,
        priority=row.priority,
        following=following,
    )

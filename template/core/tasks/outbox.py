"""The outbox: jobs that are enqueued in a MongoDB transaction stay in it until the commit.

The transaction itself stores them, so they exist if and only if it commits. The process that
committed relays them to the queue at once. If it cannot, the workers do.
"""

import json
from collections.abc import Awaitable, Callable, Sequence

from pymongo.asynchronous.client_session import AsyncClientSession

from core.models import OutboxModel
from core.tasks.engine import Envelope

RELAY_BATCH = 500

Dispatch = Callable[[list[Envelope], list[str]], Awaitable[None]]
"""`dispatch(envelopes, chosen_ids)`: puts messages into the queue."""


async def store(session: AsyncClientSession, envelopes: Sequence[Envelope]) -> None:
    """Store messages in a transaction.

    Args:
        session: The transaction's session.
        envelopes: The messages.
    """
    rows = [_to_row(envelope) for envelope in envelopes]
    await OutboxModel.insert_many(rows, session=session)


async def relay(dispatch: Dispatch) -> None:
    """Put committed messages into the queue, the oldest first.

    A process that ends between the two steps leaves its rows to another one, which dispatches
    them again. The job's id makes the job run once.

    Args:
        dispatch: Puts messages into the queue.
    """
    while rows := await OutboxModel.find_all().sort("_id").limit(RELAY_BATCH).to_list():
        await dispatch(
            [_to_envelope(row) for row in rows],
            [row.job_id for row in rows],
        )
        await OutboxModel.find({"_id": {"$in": [row.id for row in rows]}}).delete()


def _to_row(envelope: Envelope) -> OutboxModel:
    records = {envelope.id: envelope.record, **envelope.following}
    return OutboxModel(
        job_id=envelope.id,
        body=envelope.body,
        records=json.dumps(records),
        at=envelope.at,
        priority=envelope.priority,
    )


def _to_envelope(row: OutboxModel) -> Envelope:
    following = json.loads(row.records)
    record = following.pop(row.job_id)
    return Envelope(row.job_id, row.body, record, row.at, row.priority, following)

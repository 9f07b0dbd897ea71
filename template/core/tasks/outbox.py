"""The outbox: jobs that are enqueued inside a MongoDB transaction wait in it until the transaction commits.

They are stored by the transaction itself, so they exist if and only if it commits. Then they are relayed to the
queue: at once by the process that committed, and by the workers where that one could not.
"""

import json
from collections.abc import Awaitable, Callable, Sequence

from pymongo.asynchronous.client_session import AsyncClientSession

from core.models import OutboxModel
from core.tasks.engine import Delivery

SOME = 500

Send = Callable[[list[Delivery], list[str]], Awaitable[None]]
"""`send(deliveries, chosen_ids)`: puts them into the queue."""


async def store(session: AsyncClientSession, deliveries: Sequence[Delivery]) -> None:
    """Store messages as part of a transaction."""
    letters = [
        OutboxModel(
            job_id=delivery.id,
            body=delivery.body,
            records=json.dumps({delivery.id: delivery.record, **delivery.following}),
            at=delivery.at,
            priority=delivery.priority,
        )
        for delivery in deliveries
    ]
    await OutboxModel.insert_many(letters, session=session)


async def relay(send: Send) -> None:
    """Put what is committed into the queue, the oldest first.

    At least once: who ends between the two steps leaves it to another one, and the job's id lets it run once.
    """
    while waiting := await OutboxModel.find_all().sort("_id").limit(SOME).to_list():
        await send([_delivery(letter) for letter in waiting], [letter.job_id for letter in waiting])
        await OutboxModel.find({"_id": {"$in": [letter.id for letter in waiting]}}).delete()


def _delivery(letter: OutboxModel) -> Delivery:
    following = json.loads(letter.records)
    record = following.pop(letter.job_id)
    return Delivery(letter.job_id, letter.body, record, letter.at, letter.priority, following)

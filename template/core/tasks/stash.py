"""The stash: dead letters wait in the queue's server until MongoDB has them."""

import json
import time
from base64 import urlsafe_b64encode
from collections.abc import Iterable
from datetime import UTC, datetime
from uuid import uuid4

from bson.errors import BSONError
from pymongo import UpdateOne
from pymongo.errors import OperationFailure

from core.logging import get_logger
from core.models import DeadLetterModel
from core.tasks import metrics
from core.tasks.message import Message
from core.tasks.records import ErrorFields, Records, StashedLetter

logger = get_logger(__name__)

MAX_BODY = 6 * 1024**2
"""The largest message in a dead letter, in bytes. It fits into a document of MongoDB (16 MiB)
together with the arguments as text, which take up to 1.5 times as much."""
CUT = b" [the rest was cut]"

REFUSED = (OperationFailure, BSONError, ValueError, OverflowError)
"""The errors of a document that cannot be read, or that MongoDB or its client refuses."""


def make_dead_letter(
    job_id: str,
    message: Message | None,
    body: bytes,
    attempts: int,
    error: ErrorFields,
    traceparent: str | None = None,
) -> StashedLetter:
    """Return a dead letter, for the queue to stash until MongoDB has it.

    Args:
        job_id: The job's id.
        message: The job's message, or None if it cannot be read.
        body: The message's bytes.
        attempts: The number of attempts.
        error: The last attempt's error.
        traceparent: The last attempt's span, or None.
    """
    letter: StashedLetter = {
        "id": uuid4().hex,
        "job_id": job_id,
        "body": urlsafe_b64encode(_cut(body)).decode(),
        "error_type": error["type"],
        "error": error["message"],
        "traceback": error["traceback"],
        "attempts": attempts,
        "died_at": time.time(),
        "traceparent": traceparent,
    }
    if message is None:
        return letter
    arguments = message.arguments if len(body) <= MAX_BODY else {}
    return {
        **letter,
        "task": message.task,
        "arguments": json.dumps(arguments, ensure_ascii=False),
        "sensitive": message.sensitive,
        "correlation_id": message.correlation_id,
        "owner": message.owner,
        "enqueued_at": message.enqueued_at,
    }


async def move(records: Records) -> None:
    """Move all stashed dead letters from the queue's server to MongoDB, each one once.

    Args:
        records: The records, with the stash.
    """
    metrics.STASHED.set(await records.count_stashed())
    async for batch in records.stashed():
        try:
            await _store(batch.values())
        except REFUSED:
            for letter_id, text in batch.items():
                await _store_alone(letter_id, text)
        await records.unstash(list(batch))


async def _store(texts: Iterable[str]) -> None:
    await _insert([DeadLetterModel.model_validate_json(text) for text in texts])


async def _store_alone(letter_id: str, text: str) -> None:
    """Store one dead letter. If that is impossible, store its text in another one."""
    try:
        await _store([text])
    except REFUSED as error:
        reason = str(error)[:1000]
        replacement = DeadLetterModel(
            id=letter_id,
            job_id="unknown",
            body=_cut(text.encode()),
            error_type="UnreadableDeadLetter",
            error=f"the dead letter in `body` cannot be stored: {reason}",
            attempts=0,
            died_at=datetime.now(UTC),
        )
        # If MongoDB refuses this one too, the fault is not in the dead letter.
        await _insert([replacement])
        logger.error("dead letter cannot be stored", letter_id=letter_id, error=reason)


async def _insert(letters: list[DeadLetterModel]) -> None:
    """Insert the dead letters that MongoDB does not have yet."""
    writes = []
    for letter in letters:
        change = {"$setOnInsert": letter.model_dump(exclude={"id", "revision_id"})}
        writes.append(UpdateOne({"_id": letter.id}, change, upsert=True))
    collection = DeadLetterModel.get_pymongo_collection()
    await collection.bulk_write(writes, ordered=False)


def _cut(content: bytes) -> bytes:
    return content if len(content) <= MAX_BODY else content[:MAX_BODY] + CUT

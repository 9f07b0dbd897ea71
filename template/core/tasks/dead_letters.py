"""Dead letters: jobs that failed for good. MongoDB keeps them for replay and reference."""

import json
import time
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any, TypedDict, Unpack, cast

from pydantic import ValidationError

from core.database import current_transaction, make_query
from core.errors import UserError
from core.logging import MASK, get_logger
from core.models import DeadLetterModel, DeadLetterState
from core.models.dead_letter import GROUP_INDEX
from core.tasks import stash
from core.tasks.errors import BadMessage
from core.tasks.outcome import Envelope
from core.tasks.queue import Queue
from core.traces import current_traceparent

logger = get_logger(__name__)

REPLAY_BATCH = 100
MAX_GROUPED = 50_000
"""The number of dead letters that a page of the console counts by group: the newest ones."""
LARGE_FIELDS = {"body": 0, "traceback": 0, "arguments": 0}


class DeadLetterError(UserError):
    """A dead letter cannot be found, read, replayed or discarded; the message says why."""


class DeadLetterFilters(TypedDict, total=False):
    """Filters that choose dead letters. A filter that is missing or None matches all.

    Attributes:
        task: The task's name.
        error: The name of the exception's class.
        job_ids: The ids of the jobs.
        since: The job failed at this time or later.
        until: The job failed before this time.
        state: The state. Defaults to `dead`: nobody has replayed or discarded the dead letter.
        ids: The ids of the dead letters.
    """

    task: str | None
    error: str | None
    job_ids: Sequence[str] | None
    since: datetime | None
    until: datetime | None
    state: DeadLetterState | None
    ids: Sequence[str] | None


@dataclass(frozen=True, slots=True)
class DeadLetterGroup:
    """Dead letters with the same task and error.

    Attributes:
        task: The task's name, or None if the messages cannot be read.
        error: The name of the exception's class.
        count: The number of dead letters.
        first: The time of the first failure.
        last: The time of the last failure.
    """

    task: str | None
    error: str
    count: int
    first: datetime
    last: datetime


class DeadLetters:
    """The dead letters of this service."""

    def __init__(self, queue: Queue) -> None:
        self._queue = queue

    async def move(self) -> None:
        """Move stashed dead letters from the queue's server to MongoDB."""
        await stash.move(self._queue.engine.records)

    async def count_stashed(self) -> int:
        """Return the number of dead letters in the queue's server that MongoDB does not have yet.

        Raises:
            QueueUnavailable: The queue's server cannot be reached, or did not answer.
        """
        return await self._queue.engine.records.count_stashed()

    async def list(
        self,
        *,
        limit: int = 100,
        brief: bool = False,
        **filters: Unpack[DeadLetterFilters],
    ) -> list[DeadLetterModel]:
        """Return dead letters, the newest first.

        A document that cannot be read gets the state `unreadable`, and is left out.

        Args:
            limit: The largest number of dead letters to return.
            brief: Whether to leave out the messages, arguments and tracebacks, which may be large.
            **filters: Which dead letters to return.
        """
        query = _make_query(filters)
        collection = DeadLetterModel.get_pymongo_collection()
        documents = collection.find(query, LARGE_FIELDS if brief else None).sort("died_at", -1)
        found = [await _read(document) async for document in documents.limit(limit)]
        return [letter for letter in found if letter]

    async def count(self, **filters: Unpack[DeadLetterFilters]) -> int:
        """Return the number of dead letters.

        Args:
            **filters: Which dead letters to count.
        """
        return await DeadLetterModel.find(_make_query(filters)).count()

    async def groups(
        self,
        *,
        limit: int = MAX_GROUPED,
        **filters: Unpack[DeadLetterFilters],
    ) -> Sequence[DeadLetterGroup]:
        """Group dead letters by task and error. The group with the newest failure comes first.

        Args:
            limit: The largest number of dead letters to group, the newest first.
            **filters: Which dead letters to group.
        """
        pipeline: list[dict[str, Any]] = [
            # A document that cannot be read may have no time.
            {"$match": {"died_at": {"$type": "date"}, **_make_query(filters)}},
            {"$sort": {"died_at": -1}},
            {"$limit": limit},
            {
                "$group": {
                    "_id": {
                        "task": {"$ifNull": ["$task", None]},
                        "error": {"$ifNull": ["$error_type", "unknown"]},
                    },
                    "count": {"$sum": 1},
                    "first": {"$min": "$died_at"},
                    "last": {"$max": "$died_at"},
                }
            },
            {"$sort": {"last": -1}},
        ]
        collection = DeadLetterModel.get_pymongo_collection()
        options: dict[str, Any] = {}
        if not (filters.get("task") or filters.get("error")):
            options["hint"] = dict(GROUP_INDEX)
        found = await collection.aggregate(pipeline, **options)
        return [DeadLetterGroup(**each.pop("_id"), **each) async for each in found]

    async def get(self, letter_id: str) -> DeadLetterModel:
        """Return one dead letter.

        Args:
            letter_id: The dead letter's id.

        Raises:
            DeadLetterError: There is no dead letter with this id, or its document cannot be read.
        """
        document = await DeadLetterModel.get_pymongo_collection().find_one({"_id": letter_id})
        if document is None:
            raise DeadLetterError(f"there is no dead letter {letter_id}")
        letter = await _read(document)
        if letter is None:
            raise DeadLetterError(f"the document of dead letter {letter_id} cannot be read")
        return letter

    async def replay(self, letter_id: str) -> str:
        """Enqueue the job again under a new id. A chain continues after that stage.

        The replay uses only the stored message, whose signature must be valid. A dead letter is
        replayed once: a second call returns the same job.

        Args:
            letter_id: The dead letter's id.

        Returns:
            The id of the new job.

        Raises:
            DeadLetterError: There is no such dead letter, or it was discarded, or its message is
                not valid.
        """
        letter = await self.get(letter_id)
        if letter.state is DeadLetterState.DISCARDED:
            raise DeadLetterError(f"dead letter {letter_id} was discarded")
        if letter.state is not DeadLetterState.REPLAYED:
            await self._send([self._seal(letter)])
        return letter_id

    async def replay_many(
        self,
        **filters: Unpack[DeadLetterFilters],
    ) -> AsyncIterator[Sequence[str]]:
        """Replay all dead letters that match, the oldest first, a batch at a time.

        If it is interrupted, call it again. A dead letter whose message is not valid is logged and
        not replayed. A job that fails for good during the replay is not replayed again.

        Args:
            **filters: Which dead letters to replay. The state is always `dead`.

        Yields:
            The ids of the new jobs of a batch.
        """
        query = {
            "state": DeadLetterState.DEAD,
            "$and": [_make_query(filters), {"died_at": {"$lt": datetime.now(UTC)}}],
        }
        documents = DeadLetterModel.get_pymongo_collection().find(query).sort("died_at", 1)
        batch: list[Envelope] = []
        async for document in documents.batch_size(REPLAY_BATCH):
            try:
                letter = await _read(document)
                if letter:
                    batch.append(self._seal(letter))
            except DeadLetterError as refusal:
                logger.warning("dead letter not replayed", error=str(refusal))
            if len(batch) == REPLAY_BATCH:
                yield await self._send(batch)
                batch = []
        if batch:
            yield await self._send(batch)

    def _seal(self, letter: DeadLetterModel) -> Envelope:
        """Return the job that replays a dead letter.

        It has the dead letter's id, so two replays make one job.
        """
        try:
            message = self._queue.unseal(letter.job_id, letter.body)
        except BadMessage as error:
            raise DeadLetterError(f"dead letter {letter.id} cannot be replayed: {error}") from None
        again = replace(
            message,
            id=letter.id,
            enqueued_at=time.time(),
            due_at=None,
            expires_at=None,
            schedule=None,
            chain=letter.id if message.rest else None,
            traceparent=current_traceparent(),
            replayed=letter.traceparent or message.traceparent,
        )
        return self._queue.seal(again, None, "normal")

    async def _send(self, envelopes: Sequence[Envelope]) -> Sequence[str]:
        """Enqueue jobs, and then mark their dead letters, so no interruption loses a job."""
        ids = [envelope.id for envelope in envelopes]
        await self._queue.send([*envelopes])
        # A list is a pipeline, in which `$_id` is the value of this field.
        change = [{"$set": {"state": DeadLetterState.REPLAYED, "replayed_as": "$_id"}}]
        transaction = current_transaction()
        session = transaction.session if transaction else None
        collection = DeadLetterModel.get_pymongo_collection()
        await collection.update_many({"_id": {"$in": ids}}, change, session=session)
        return ids

    async def discard(self, letter_id: str) -> None:
        """Mark a dead letter as discarded. It is kept for reference.

        Args:
            letter_id: The dead letter's id.

        Raises:
            DeadLetterError: There is no such dead letter, or it was replayed.
        """
        undecided = {"_id": letter_id, "state": {"$ne": DeadLetterState.REPLAYED}}
        if not await _discard(undecided):
            letter = await self.get(letter_id)
            problem = f"was replayed as job {letter.replayed_as}"
            raise DeadLetterError(f"dead letter {letter_id} {problem}")

    async def discard_many(self, **filters: Unpack[DeadLetterFilters]) -> int:
        """Discard all dead letters that match, and return their number.

        Args:
            **filters: Which dead letters to discard. The state is always `dead`.
        """
        return await _discard({**_make_query(filters), "state": DeadLetterState.DEAD})


def masked_arguments(letter: DeadLetterModel) -> dict[str, Any]:
    """Return the arguments of a dead letter by name. Sensitive ones are masked.

    Args:
        letter: The dead letter.
    """
    arguments: dict[str, Any] = json.loads(letter.arguments)
    return {**arguments, **dict.fromkeys(letter.sensitive, MASK)}


def _make_query(filters: DeadLetterFilters) -> dict[str, Any]:
    return make_query(
        "died_at",
        filters.get("since"),
        filters.get("until"),
        task=filters.get("task"),
        error_type=filters.get("error"),
        job_id=_any_of(filters.get("job_ids")),
        state=filters.get("state", DeadLetterState.DEAD),
        _id=_any_of(filters.get("ids")),
    )


def _any_of(ids: Sequence[str] | None) -> dict[str, Any] | None:
    return None if ids is None else {"$in": list(ids)}


async def _discard(query: dict[str, Any]) -> int:
    collection = DeadLetterModel.get_pymongo_collection()
    done = await collection.update_many(query, {"$set": {"state": DeadLetterState.DISCARDED}})
    return done.matched_count


async def _read(document: dict[str, Any]) -> DeadLetterModel | None:
    """Return a dead letter. If it cannot be read, set its document aside and return None."""
    try:
        return cast(DeadLetterModel, DeadLetterModel.model_validate(document))
    except ValidationError as error:
        if document.get("state") != DeadLetterState.UNREADABLE:
            letter_id = document["_id"]
            logger.error("dead letter cannot be read", letter_id=letter_id, error=str(error))
            change = {"$set": {"state": DeadLetterState.UNREADABLE}}
            await DeadLetterModel.get_pymongo_collection().update_one({"_id": letter_id}, change)
        return None

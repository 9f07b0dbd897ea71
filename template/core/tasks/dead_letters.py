"""Dead letters: jobs that are not run any more, kept in MongoDB until someone decides about them."""

import json
import time
from datetime import UTC, datetime
from typing import Any
from uuid import uuid4

from core.errors import UserError
from core.models import DeadLetterModel, DeadLetterState
from core.tasks.history import make_query
from core.tasks.message import Message
from core.tasks.queue import Queue
from core.tasks.records import Fields

DATES = ("enqueued_at", "died_at")


async def _store(letter: Fields) -> None:
    fields: dict[str, Any] = {name: value for name, value in letter.items() if name != "id"}
    for name in DATES:
        if fields[name] is not None:
            fields[name] = datetime.fromtimestamp(fields[name], UTC)
    fields["state"] = DeadLetterState.DEAD
    collection = DeadLetterModel.get_pymongo_collection()
    await collection.update_one({"_id": letter["id"]}, {"$setOnInsert": fields}, upsert=True)


class DeadLetterError(UserError):
    """Nothing can be done with a dead letter; the message says why."""


def make_letter(job_id: str, message: Message | None, body: bytes, attempts: int, error: Fields) -> Fields:
    """A dead letter as plain JSON data, which the queue keeps until it is in MongoDB.

    Args:
        job_id: Which job.
        message: What was to be run, or None where it could not be read.
        body: The message as it was found.
        attempts: How often it was tried.
        error: `type`, `message` and `traceback`.
    """
    return {
        "id": uuid4().hex,
        "job_id": job_id,
        "task": message.task if message else None,
        "arguments": json.dumps(message.arguments if message else {}),
        "sensitive": message.sensitive if message else [],
        "rest": message.rest if message else [],
        "stage": message.stage if message else 0,
        "raw": None if message else body.decode(errors="backslashreplace"),
        "error_type": error["type"],
        "error": error["message"],
        "traceback": error["traceback"],
        "attempts": attempts,
        "correlation_id": message.correlation_id if message else None,
        "owner": message.owner if message else None,
        "enqueued_at": message.enqueued_at if message else None,
        "died_at": time.time(),
    }


class DeadLetters:
    """The dead letters of this service."""

    def __init__(self, queue: Queue) -> None:
        self._queue = queue

    async def move(self) -> None:
        """Move the dead letters that wait in the queue to MongoDB. One that is there already is not stored again."""
        records = self._queue.engine.records
        while letters := await records.buried():
            for letter in letters:
                await _store(letter)
                await records.unbury([letter["id"]])

    async def list(
        self,
        *,
        task: str | None = None,
        error: str | None = None,
        since: datetime | None = None,
        until: datetime | None = None,
        state: DeadLetterState | None = DeadLetterState.DEAD,
        limit: int = 100,
    ) -> list[DeadLetterModel]:
        """Dead letters, the newest first.

        Args:
            task: Only those of this task.
            error: Only those whose exception is of this type (the class's name).
            since: Only those that died then or later.
            until: Only those that died before.
            state: Only those of this state; all where None.
            limit: At most so many.
        """
        query = make_query("died_at", since, until, task=task, error_type=error, state=state)
        return await DeadLetterModel.find(query).sort("-died_at").limit(limit).to_list()

    async def count(self) -> int:
        """How many there are about which nobody has decided."""
        return await DeadLetterModel.find({"state": DeadLetterState.DEAD}).count()

    async def replay(self, letter_id: str) -> str:
        """Enqueue its job again, under a new id; a letter is replayed once. A chain goes on after that stage.

        Args:
            letter_id: The dead letter's id.

        Returns:
            The id of the new job.

        Raises:
            DeadLetterError: There is no such letter, it was discarded, or its message could not be read.
        """
        letter = await self.get(letter_id)
        if letter.task is None:
            raise DeadLetterError(f"dead letter {letter_id} holds a message that could not be read; discard it")
        if letter.state is DeadLetterState.DISCARDED:
            raise DeadLetterError(f"dead letter {letter_id} was discarded")
        # The new id is stored before the job is published under it, so that a replay that was cut off is completed
        # by another one, and two at once make one job.
        collection = DeadLetterModel.get_pymongo_collection()
        change = {"$set": {"state": DeadLetterState.REPLAYED, "replayed_as": uuid4().hex}}
        await collection.update_one({"_id": letter_id, "state": DeadLetterState.DEAD}, change)
        letter = await self.get(letter_id)
        assert letter.replayed_as
        assert letter.task
        message = Message(
            id=letter.replayed_as,
            task=letter.task,
            arguments=json.loads(letter.arguments),
            sensitive=letter.sensitive,
            correlation_id=letter.correlation_id or letter.id,
            owner=letter.owner,
            enqueued_at=time.time(),
            chain=letter.replayed_as if letter.rest else None,
            stage=letter.stage,
            rest=letter.rest,
        )
        await self._queue.publish([self._queue.delivery(message, None, "normal")], [message.id])
        return message.id

    async def discard(self, letter_id: str) -> None:
        """Mark it as done with; it stays to be looked at.

        Args:
            letter_id: The dead letter's id.

        Raises:
            DeadLetterError: There is no such letter, or it was replayed.
        """
        letter = await self.get(letter_id)
        if letter.state is DeadLetterState.REPLAYED:
            raise DeadLetterError(f"dead letter {letter_id} was replayed as job {letter.replayed_as}")
        await letter.set({"state": DeadLetterState.DISCARDED})

    async def get(self, letter_id: str) -> DeadLetterModel:
        """One dead letter.

        Args:
            letter_id: The dead letter's id.

        Raises:
            DeadLetterError: There is none with this id.
        """
        letter = await DeadLetterModel.get(letter_id)
        if letter is None:
            raise DeadLetterError(f"there is no dead letter {letter_id}")
        return letter

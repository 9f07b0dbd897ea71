"""Dead letters: jobs that failed for good, kept in MongoDB until somebody decides about them."""

import json
import time
from datetime import UTC, datetime
from typing import Any
from uuid import uuid4

from core.database import make_query
from core.errors import UserError
from core.models import DeadLetterModel, DeadLetterState
from core.tasks.message import Message
from core.tasks.queue import Queue
from core.tasks.records import ErrorFields

DATE_FIELDS = ("enqueued_at", "died_at")


class DeadLetterError(UserError):
    """A dead letter cannot be found, replayed or discarded; the message says why."""


def make_dead_letter(
    job_id: str,
    message: Message | None,
    body: bytes,
    attempts: int,
    error: ErrorFields,
) -> dict[str, Any]:
    """Return a dead letter as plain JSON data, which the queue stashes until MongoDB has it.

    Args:
        job_id: The job's id.
        message: The job's message, or None if it cannot be read.
        body: The message's bytes.
        attempts: The number of attempts.
        error: The last attempt's error.
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
        """Move stashed dead letters from the queue's server to MongoDB, each one once."""
        records = self._queue.engine.records
        while stashed := await records.stashed():
            for fields in stashed:
                await _store(fields)
                await records.unstash([fields["id"]])

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
        """Return dead letters, the newest first.

        Args:
            task: Return only dead letters of this task.
            error: Return only dead letters whose exception has this class name.
            since: Return only jobs that died at this time or later.
            until: Return only jobs that died before this time.
            state: Return only dead letters in this state; all if None.
            limit: The largest number of dead letters to return.
        """
        query = make_query(
            "died_at",
            since,
            until,
            task=task,
            error_type=error,
            state=state,
        )
        return await DeadLetterModel.find(query).sort("-died_at").limit(limit).to_list()

    async def count(self) -> int:
        """Return the number of dead letters that nobody has replayed or discarded."""
        return await DeadLetterModel.find({"state": DeadLetterState.DEAD}).count()

    async def get(self, letter_id: str) -> DeadLetterModel:
        """Return one dead letter.

        Args:
            letter_id: The dead letter's id.

        Raises:
            DeadLetterError: There is no dead letter with this id.
        """
        letter = await DeadLetterModel.get(letter_id)
        if letter is None:
            raise DeadLetterError(f"there is no dead letter {letter_id}")
        return letter

    async def replay(self, letter_id: str) -> str:
        """Enqueue the job again under a new id. A chain continues after that stage.

        A dead letter is replayed once: a second call returns the same job.

        Args:
            letter_id: The dead letter's id.

        Returns:
            The id of the new job.

        Raises:
            DeadLetterError: There is no such dead letter, it was discarded, or its message cannot
                be read.
        """
        letter = await self.get(letter_id)
        if letter.task is None:
            problem = "holds a message that cannot be read; discard it"
            raise DeadLetterError(f"dead letter {letter_id} {problem}")
        if letter.state is DeadLetterState.DISCARDED:
            raise DeadLetterError(f"dead letter {letter_id} was discarded")
        # The new id is stored before the job is sent. So a second replay completes an interrupted
        # one, and two replays at the same time make one job.
        collection = DeadLetterModel.get_pymongo_collection()
        change = {
            "state": DeadLetterState.REPLAYED,
            "replayed_as": uuid4().hex,
        }
        undecided = {"_id": letter_id, "state": DeadLetterState.DEAD}
        await collection.update_one(undecided, {"$set": change})
        message = _make_message(await self.get(letter_id))
        await self._queue.send([self._queue.seal(message, None, "normal")], [message.id])
        return message.id

    async def discard(self, letter_id: str) -> None:
        """Mark a dead letter as discarded. It is kept for reference.

        Args:
            letter_id: The dead letter's id.

        Raises:
            DeadLetterError: There is no such dead letter, or it was replayed.
        """
        letter = await self.get(letter_id)
        if letter.state is DeadLetterState.REPLAYED:
            problem = f"was replayed as job {letter.replayed_as}"
            raise DeadLetterError(f"dead letter {letter_id} {problem}")
        await letter.set({"state": DeadLetterState.DISCARDED})


def _make_message(letter: DeadLetterModel) -> Message:
    assert letter.task
    assert letter.replayed_as
    return Message(
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


async def _store(stashed: dict[str, Any]) -> None:
    """Store a dead letter unless MongoDB has it already."""
    fields = {name: value for name, value in stashed.items() if name != "id"}
    for name in DATE_FIELDS:
        if fields[name] is not None:
            fields[name] = datetime.fromtimestamp(fields[name], UTC)
    fields["state"] = DeadLetterState.DEAD
    collection = DeadLetterModel.get_pymongo_collection()
    await collection.update_one({"_id": stashed["id"]}, {"$setOnInsert": fields}, upsert=True)

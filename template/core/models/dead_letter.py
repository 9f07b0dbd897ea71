from datetime import datetime
from enum import StrEnum
from typing import Annotated, ClassVar

from beanie import Document, Indexed
from pydantic import ConfigDict, Field
from pymongo import ASCENDING, DESCENDING


class DeadLetterState(StrEnum):
    """The state of a dead letter."""

    DEAD = "dead"
    REPLAYED = "replayed"
    DISCARDED = "discarded"
    UNREADABLE = "unreadable"


GROUP_INDEX = [
    ("state", ASCENDING),
    ("died_at", DESCENDING),
    ("task", ASCENDING),
    ("error_type", ASCENDING),
]


class DeadLetterModel(Document):
    """A job that failed for good. A replay trusts only `body`; the other fields are for people.

    Attributes:
        id: The dead letter's id. One job can have several dead letters.
        job_id: The job's id.
        task: The task's name, or None if the message cannot be read.
        arguments: The arguments by name, as JSON. MongoDB refuses some names and numbers of JSON.
        sensitive: The names of the encrypted arguments.
        body: The signed message. If it was too large for MongoDB, its end was cut.
        error_type: The name of the exception's class.
        error: The exception's message.
        traceback: The exception's traceback.
        attempts: The number of attempts.
        correlation_id: The job's correlation id.
        owner: The id of the user who enqueued the job, or None.
        enqueued_at: The time at which the job was enqueued, if known.
        died_at: The time of the last failure.
        state: Whether the dead letter was replayed or discarded, or cannot be read.
        replayed_as: The id of the job that a replay enqueued.
        traceparent: The span of the last attempt, or None. Its second part is the id of the trace.
    """

    id: str  # type: ignore[assignment]  # not MongoDB's, so a dead letter is stored once
    job_id: Annotated[str, Indexed()]
    task: str | None = None
    arguments: str = "{}"
    sensitive: list[str] = Field(default_factory=list)
    body: bytes = b""
    error_type: str
    error: str
    traceback: str = ""
    attempts: int
    correlation_id: Annotated[str | None, Indexed()] = None
    owner: str | None = None
    enqueued_at: datetime | None = None
    died_at: datetime
    state: DeadLetterState = DeadLetterState.DEAD
    replayed_as: str | None = None
    traceparent: str | None = None

    model_config = ConfigDict(ser_json_bytes="base64", val_json_bytes="base64")

    class Settings:
        name = "dead_letters"
        indexes: ClassVar = [
            # It contains all fields that `groups` reads. Beanie keeps only one of two indexes with
            # the same fields, even if their order differs.
            GROUP_INDEX,
            [("task", ASCENDING), ("state", ASCENDING), ("died_at", DESCENDING)],
            [("error_type", ASCENDING), ("state", ASCENDING), ("died_at", DESCENDING)],
        ]

from datetime import datetime
from enum import StrEnum
from typing import Annotated

from beanie import Document, Indexed
from pydantic import Field


class DeadLetterState(StrEnum):
    """The state of a dead letter."""

    DEAD = "dead"
    REPLAYED = "replayed"
    DISCARDED = "discarded"


class DeadLetterModel(Document):
    """A job that failed for good, with everything that a replay needs.

    Attributes:
        id: The dead letter's id. One job can have several dead letters.
        job_id: The job's id.
        task: The task's name, or None if the message cannot be read.
        arguments: The arguments by name, as JSON. MongoDB refuses some names and numbers of JSON.
        sensitive: The names of the encrypted arguments.
        rest: The remaining tasks of the chain.
        stage: The job's position in the chain, from 0.
        raw: The message, if it cannot be read.
        error_type: The name of the exception's class.
        error: The exception's message.
        traceback: The exception's traceback.
        attempts: The number of attempts.
        correlation_id: The job's correlation id.
        owner: The id of the user who enqueued the job, or None.
        enqueued_at: The time at which the job was enqueued, if known.
        died_at: The time of the last failure.
        state: Whether the dead letter was replayed or discarded.
        replayed_as: The id of the job that the last replay enqueued.
    """

    id: str  # type: ignore[assignment]  # not MongoDB's, so a dead letter is stored once
    job_id: Annotated[str, Indexed()]
    task: Annotated[str | None, Indexed()] = None
    arguments: str = "{}"
    sensitive: list[str] = Field(default_factory=list)
    rest: list[str] = Field(default_factory=list)
    stage: int = 0
    raw: str | None = None
    error_type: str
    error: str
    traceback: str = ""
    attempts: int
    correlation_id: str | None = None
    owner: str | None = None
    enqueued_at: datetime | None = None
    died_at: Annotated[datetime, Indexed()]
    state: DeadLetterState = DeadLetterState.DEAD
    replayed_as: str | None = None

    class Settings:
        name = "dead_letters"

from datetime import datetime
from enum import StrEnum
from typing import Annotated

from beanie import Document, Indexed
from pydantic import Field


class DeadLetterState(StrEnum):
    """What has become of a dead letter."""

    DEAD = "dead"
    REPLAYED = "replayed"
    DISCARDED = "discarded"


class DeadLetterModel(Document):
    """A job that is not run any more: all that is needed to understand it and to run it again.

    Attributes:
        id: Of the letter; a job id can die more than once.
        job_id: Which job it was.
        task: Its task; None where the message could not be read.
        arguments: By parameter name, as JSON: MongoDB refuses some names and numbers that JSON takes.
        sensitive: The names of the arguments that are encrypted.
        rest: The tasks that were to follow in its chain.
        stage: Its place in the chain, from 0.
        raw: The message as it was found, where it could not be read.
        error_type: The name of the exception's class.
        error: Its text.
        attempts: How often it was tried.
        replayed_as: The id of the job that it became.
    """

    id: str  # type: ignore[assignment]  # ours, not MongoDB's, so that a letter is stored once
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

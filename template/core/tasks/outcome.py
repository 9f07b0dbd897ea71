"""Values for the engine: messages on their way into the queue, and the outcomes of runs."""

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from core.logging import get_logger
from core.tasks.records import RecordFields, StashedLetter

logger = get_logger(__name__)

FOLLOWING_SECONDS = 7 * 86400
"""How long the records of a chain's later stages are kept while they are pending."""


@dataclass(frozen=True, slots=True)
class Envelope:
    """A signed message on its way into the queue, together with its job's record.

    Attributes:
        id: The job's id. The engine adds no second message while a job of this id is in the queue.
        body: The signed message.
        record: The job's first record. The engine keeps a record that exists already.
        at: When the job is due, in seconds since 1970; at once if None.
        priority: One of `PRIORITIES`.
        following: The records of the chain's later stages, by job id. A durable engine lets them
            expire after `FOLLOWING_SECONDS`, unless the stage gets a message.
    """

    id: str
    body: bytes
    record: RecordFields
    at: float | None = None
    priority: str = "normal"
    following: Mapping[str, RecordFields] = field(default_factory=dict)


def _note_nothing() -> None: ...


@dataclass(frozen=True, slots=True)
class Ended:
    """The job has ended. The engine makes all of these changes in one step.

    Attributes:
        fields: The fields to set in the job's record. A job that had ended before stays unchanged.
        ttl: Seconds until the records expire.
        dead_letter: The dead letter of a job that failed.
        next_stage: The next stage of the job's chain. A full server takes it too: it needs no more
            memory than the stage that ended.
        stopped: The records of the later stages of its chain that will not run, by job id.
        note: The engine calls it after it has recorded the outcome. It does not call it if another
            delivery of the job has begun.
    """

    fields: RecordFields
    ttl: float
    dead_letter: StashedLetter | None = None
    next_stage: Envelope | None = None
    stopped: Mapping[str, RecordFields] = field(default_factory=dict)
    note: Callable[[], None] = _note_nothing


@dataclass(frozen=True, slots=True)
class Retry:
    """The job will run again.

    Attributes:
        after: Seconds to wait.
        fields: The fields to set in the job's record. It stays unchanged if no field is given.
        waits: Whether the job waits for a slot of a limit. The engine then starts it as soon as all
            of its slots are free. `after` is a precaution, so that no job is forgotten.
        note: As in `Ended`.
    """

    after: float
    fields: RecordFields = field(default_factory=lambda: RecordFields())
    waits: bool = False
    note: Callable[[], None] = _note_nothing


Outcome = Ended | Retry


def note_end(outcome: Outcome, stashed: asyncio.Event) -> None:
    """Note the outcome of a run after the engine has recorded it.

    Args:
        outcome: The outcome.
        stashed: Set if the run left a dead letter.
    """
    try:
        outcome.note()
    except Exception:
        logger.exception("end of a job could not be noted")
    if isinstance(outcome, Ended) and outcome.dead_letter:
        stashed.set()

from typing import Annotated

from beanie import Document
from pydantic import Field, FiniteFloat


class OutboxModel(Document):
    """A job of a transaction that is not in the queue yet.

    Attributes:
        job_id: The job's id.
        body: The signed message.
        records: The records of the job and of the jobs after it in a chain, by job id, as JSON.
        at: The time at which the job is due, in seconds since 1970, or None for at once.
        priority: `low`, `normal` or `high`.
        problem: Why this document cannot be read. Such a document stays in the outbox.
    """

    job_id: str
    body: bytes
    records: str
    at: FiniteFloat | None
    priority: Annotated[str, Field(pattern="^(low|normal|high)$")]
    problem: str | None = None

    class Settings:
        name = "outbox"

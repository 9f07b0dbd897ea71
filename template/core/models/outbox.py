from beanie import Document


class OutboxModel(Document):
    """A job of a transaction that is not in the queue yet.

    Attributes:
        job_id: The job's id.
        body: The signed message.
        records: The records of the job and of the jobs after it in a chain, by job id, as JSON.
        at: The time at which the job is due, in seconds since 1970, or None for at once.
        priority: `low`, `normal` or `high`.
    """

    job_id: str
    body: bytes
    records: str
    at: float | None
    priority: str

    class Settings:
        name = "outbox"

from beanie import Document


class OutboxModel(Document):
    """A job that was enqueued in a transaction, on its way into the queue.

    Attributes:
        job_id: Which job.
        body: Its signed message.
        records: As JSON, its record, and those of the jobs that follow it in a chain, by their ids.
        at: When it is due, in seconds since 1970; at once where None.
        priority: `low`, `normal` or `high`.
    """

    job_id: str
    body: bytes
    records: str
    at: float | None
    priority: str

    class Settings:
        name = "outbox"

from datetime import UTC, datetime

from beanie import Document
from pydantic import Field
from pymongo import ASCENDING, IndexModel


class BlobModel(Document):
    """What is known of a file; the file itself is in the store that `BLOB_URL` names, under this id.

    Attributes:
        name: What a download is called; slashes only group.
        content_type: Its media type.
        size: In bytes.
        owner: The id of the user on whose behalf it was stored, or None.
    """

    name: str
    content_type: str
    size: int
    owner: str | None = None
    created_at: datetime = Field(default_factory=lambda: datetime.now(UTC))

    class Settings:
        name = "blobs"
        indexes = [IndexModel([("owner", ASCENDING), ("created_at", ASCENDING)])]  # noqa: RUF012  # Beanie's form

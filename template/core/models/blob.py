from datetime import UTC, datetime
from typing import Annotated

from beanie import Document, Indexed
from pydantic import Field
from pymongo import ASCENDING, IndexModel


class BlobModel(Document):
    """The record of a file. The store that `BLOB_URL` names holds the file under the same id.

    Attributes:
        name: The file's name. Downloads use the part after the last slash.
        content_type: The media type.
        size: The size in bytes.
        owner: The id of the user that the file was stored for, or None.
        created_at: The time of the upload.
        expires_at: The time at which MongoDB removes the record, or None. `delete_orphans` then
            removes the file.
    """

    name: str
    content_type: str
    size: int
    owner: str | None = None
    created_at: datetime = Field(default_factory=lambda: datetime.now(UTC))
    expires_at: Annotated[datetime | None, Indexed(expireAfterSeconds=0)] = None

    class Settings:
        name = "blobs"
        indexes = [IndexModel([("owner", ASCENDING), ("created_at", ASCENDING)])]

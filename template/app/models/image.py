"""Uploaded images."""

from datetime import UTC, datetime
from enum import StrEnum
from typing import Annotated

from beanie import Document, Indexed
from pydantic import Field


class ImageStatus(StrEnum):
    """The status of an image. It is kept longer than the status of a job."""

    PENDING = "pending"
    COMPLETED = "completed"
    FAILED = "failed"


class ImageModel(Document):
    """An uploaded image.

    Attributes:
        name: The file's name.
        owner: The id of the user who uploaded it.
        blob_id: The uploaded file. It is deleted after `UPLOAD_RETENTION`.
        status: `completed` when both smaller images exist.
        error: Why the file cannot be used.
        thumbnail_id: The blob of the thumbnail.
        optimized_id: The blob of the optimized image.
        pipeline_id: The run of the chain that processes the image.
        created_at: The time of the upload.
    """

    name: str
    owner: Annotated[str, Indexed()]
    blob_id: str
    status: ImageStatus = ImageStatus.PENDING
    error: str | None = None
    thumbnail_id: str | None = None
    optimized_id: str | None = None
    pipeline_id: str | None = None
    created_at: datetime = Field(default_factory=lambda: datetime.now(UTC))

    class Settings:
        name = "images"

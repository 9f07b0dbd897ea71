from datetime import UTC, datetime
from enum import StrEnum
from typing import Annotated

from beanie import Document, Indexed
from pydantic import Field


class ImageStatus(StrEnum):
    WAITING = "waiting"
    READY = "ready"
    FAILED = "failed"


class ImageModel(Document):
    """An uploaded image, and what was made of it."""

    name: str
    owner: Annotated[str, Indexed()]
    blob_id: str
    """Of the file as it was uploaded."""
    status: ImageStatus = ImageStatus.WAITING
    error: str | None = None
    """Why it could not be used."""
    thumbnail_id: str | None = None
    optimized_id: str | None = None
    pipeline_id: str | None = None
    """The run of the chain that works on it."""
    created_at: datetime = Field(default_factory=lambda: datetime.now(UTC))

    class Settings:
        name = "images"

"""Blobs: files in a folder, S3, Google Cloud Storage or Azure, with their records in MongoDB."""

import mimetypes
from collections.abc import AsyncIterable, AsyncIterator
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from functools import lru_cache

import obstore
from beanie import PydanticObjectId
from bson import ObjectId
from bson.errors import InvalidId
from obstore.exceptions import NotFoundError
from obstore.store import LocalStore, ObjectStore, from_url

from core.config import ROOT, get_settings
from core.context import TaskContext
from core.database import current_session
from core.models import BlobModel
from core.services.blob_links import InvalidLink, LinkExpired, read_link, sign_link

__all__ = ["BlobNotFound", "BlobService", "LinkExpired", "blob_service"]

LINK_SECONDS = 3600.0
LIST_BATCH = 1000
UPLOAD_AGE = timedelta(days=1)
"""The age at which a file without a record no longer belongs to a running upload."""
DEFAULT_TYPE = "application/octet-stream"
MISSING_FILE = (NotFoundError, FileNotFoundError)
"""The exceptions for a missing file, of object stores and of folders."""


class BlobNotFound(Exception):
    """A blob does not exist."""


@lru_cache(maxsize=4)
def _open_store(url: str) -> ObjectStore:
    if "://" in url:
        return from_url(url)
    return LocalStore(ROOT / url, mkdir=True)


class BlobService:
    """The store for files. `blob_service` is the instance of this process."""

    @property
    def store(self) -> ObjectStore:
        """The folder or object store with the files."""
        return _open_store(get_settings().blob_url)

    async def upload(
        self,
        data: bytes | AsyncIterable[bytes],
        name: str,
        *,
        content_type: str | None = None,
        expires: float | None = None,
    ) -> BlobModel:
        """Store a file. In a transaction, its record is part of it.

        The file is written before its record. An interrupted upload leaves a file without a
        record, which `delete_orphans` removes.

        Args:
            data: The whole file, or an async iterable of pieces, which are stored as they arrive.
            name: The file's name, such as `reports/2027.pdf`.
            content_type: The media type. Defaults to a guess from the name.
            expires: Seconds after which the file is deleted. If None, it is kept.

        Returns:
            The blob's record.
        """
        now = datetime.now(UTC)
        blob_id = PydanticObjectId()
        size = await _write(self.store, str(blob_id), data)
        guessed_type, _ = mimetypes.guess_type(name)
        blob = BlobModel(
            id=blob_id,
            name=name,
            content_type=content_type or guessed_type or DEFAULT_TYPE,
            size=size,
            owner=TaskContext.get_actor(),
            created_at=now,
            expires_at=now + timedelta(seconds=expires) if expires else None,
        )
        return await blob.insert(session=current_session())

    async def get(self, blob_id: str) -> BlobModel:
        """Return a blob's record.

        Args:
            blob_id: The blob's id.

        Raises:
            BlobNotFound: No blob has this id.
        """
        blob = None
        with suppress(InvalidId):
            blob = await BlobModel.get(PydanticObjectId(blob_id))
        if blob is None:
            raise BlobNotFound(str(blob_id))
        return blob

    async def download(self, blob_id: str) -> bytes:
        """Return a whole file, in memory.

        Args:
            blob_id: The blob's id.

        Raises:
            BlobNotFound: No blob has this id.
        """
        pieces = [piece async for piece in self.stream(blob_id)]
        return b"".join(pieces)

    async def stream(self, blob_id: str) -> AsyncIterator[bytes]:
        """Return a file in pieces.

        Args:
            blob_id: The blob's id.

        Raises:
            BlobNotFound: No blob has this id. Raised before the first piece.
        """
        blob = await self.get(blob_id)
        try:
            found = await obstore.get_async(self.store, str(blob.id))
        except MISSING_FILE:
            raise BlobNotFound(str(blob_id)) from None
        async for piece in found.stream():
            yield bytes(piece)

    async def delete(self, blob_id: str) -> None:
        """Delete a file. Nothing happens if it does not exist.

        Args:
            blob_id: The blob's id.
        """
        try:
            blob = await self.get(blob_id)
        except BlobNotFound:
            return
        # The record first: `delete_orphans` removes the file if this is interrupted.
        await blob.delete()
        with suppress(*MISSING_FILE):
            await obstore.delete_async(self.store, str(blob.id))

    def link(self, blob_id: str, seconds: float = LINK_SECONDS) -> str:
        """Return a link that lets anyone download a file until it expires.

        Args:
            blob_id: The blob's id.
            seconds: Seconds for which the link is valid. Defaults to an hour.
        """
        token = sign_link(str(blob_id), seconds)
        return get_settings().link_to(f"blobs/{token}")

    async def open_link(self, token: str) -> BlobModel:
        """Return the record of the blob that a link opens.

        Args:
            token: The last part of the link.

        Raises:
            BlobNotFound: The link is not valid, or the blob does not exist.
            LinkExpired: The link has expired.
        """
        try:
            blob_id = read_link(token)
        except InvalidLink:
            raise BlobNotFound(token) from None
        return await self.get(blob_id)

    async def delete_orphans(self, older_than: timedelta = UPLOAD_AGE) -> int:
        """Delete the files without a record, which interrupted uploads leave.

        Args:
            older_than: The minimum age of a file to delete. Defaults to a day.

        Returns:
            The number of deleted files.
        """
        limit = datetime.now(UTC) - older_than
        deleted = 0
        async for batch in obstore.list(self.store, chunk_size=LIST_BATCH):
            old = [file["path"] for file in batch if file["last_modified"] < limit]
            orphans = await _find_orphans(old)
            await obstore.delete_async(self.store, orphans)
            deleted += len(orphans)
        return deleted


async def _write(
    store: ObjectStore,
    path: str,
    data: bytes | AsyncIterable[bytes],
) -> int:
    """Write a file, and return its size in bytes."""
    if isinstance(data, bytes):
        await obstore.put_async(store, path, data)
        return len(data)
    size = 0

    async def count(pieces: AsyncIterable[bytes]) -> AsyncIterator[bytes]:
        nonlocal size
        async for piece in pieces:
            size += len(piece)
            yield piece

    await obstore.put_async(store, path, count(data))
    return size


async def _find_orphans(paths: list[str]) -> list[str]:
    """Return the paths that are ids of blobs without a record."""
    candidates = [path for path in paths if ObjectId.is_valid(path)]
    ids = [ObjectId(path) for path in candidates]
    found = await BlobModel.distinct("_id", {"_id": {"$in": ids}})
    known = {str(blob_id) for blob_id in found}
    return [path for path in candidates if path not in known]


blob_service = BlobService()
"""The blobs of this service."""

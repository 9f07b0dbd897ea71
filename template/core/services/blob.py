"""Blobs: files in a folder, S3, Google Cloud Storage or Azure, and what is known of them in MongoDB."""

import mimetypes
from collections.abc import AsyncIterable, AsyncIterator
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from functools import lru_cache

import obstore
from beanie import PydanticObjectId
from bson import ObjectId
from bson.errors import InvalidId
from itsdangerous import BadSignature, URLSafeSerializer
from obstore.exceptions import NotFoundError
from obstore.store import LocalStore, ObjectStore, from_url

from core.config import ROOT, get_settings
from core.context import TaskContext
from core.database import current_session
from core.keys import derive_keys
from core.models import BlobModel

__all__ = ["BlobNotFound", "BlobService", "LinkExpired", "blob_service"]

LINK_SECONDS = 3600.0
BATCH = 1000
UPLOAD_AGE = timedelta(days=1)
"""A file without a record that is younger may still be on its way."""


class BlobNotFound(Exception):
    """There is no such blob."""


class LinkExpired(Exception):
    """The link was valid once."""


@lru_cache(maxsize=4)
def _open_store(url: str) -> ObjectStore:
    if "://" in url:
        return from_url(url)
    return LocalStore(ROOT / url, mkdir=True)


class BlobService:
    """Stores files and finds them again; `blob_service` is the one of this process."""

    @property
    def store(self) -> ObjectStore:
        """Where the files are."""
        return _open_store(get_settings().blob_url)

    async def upload(
        self, data: bytes | AsyncIterable[bytes], name: str, *, content_type: str | None = None
    ) -> BlobModel:
        """Store a file.

        The file is written before its record: one that was cut off leaves a file that nobody knows, which
        `delete_orphans` removes.

        Args:
            data: The file, whole or in pieces of any size; pieces are stored as they come.
            name: What a download is called, such as `reports/2027.pdf`.
            content_type: Its media type; guessed from the name where None.
        """
        blob_id, size = PydanticObjectId(), 0

        async def counted(pieces: AsyncIterable[bytes]) -> AsyncIterator[bytes]:
            nonlocal size
            async for piece in pieces:
                size += len(piece)
                yield piece

        if isinstance(data, bytes):
            size = len(data)
            await obstore.put_async(self.store, str(blob_id), data)
        else:
            await obstore.put_async(self.store, str(blob_id), counted(data))
        guessed = content_type or mimetypes.guess_type(name)[0] or "application/octet-stream"
        blob = BlobModel(
            id=blob_id, name=name, content_type=guessed, size=size, owner=TaskContext.get_actor()
        )
        return await blob.insert(session=current_session())

    async def get(self, blob_id: str) -> BlobModel:
        """What is known of a file.

        Args:
            blob_id: The blob's id.

        Raises:
            BlobNotFound: There is none with this id.
        """
        try:
            blob = await BlobModel.get(PydanticObjectId(blob_id))
        except InvalidId:
            blob = None
        if blob is None:
            raise BlobNotFound(str(blob_id))
        return blob

    async def download(self, blob_id: str) -> bytes:
        """A whole file, in memory.

        Args:
            blob_id: The blob's id.

        Raises:
            BlobNotFound: There is none with this id.
        """
        return b"".join([piece async for piece in self.stream(blob_id)])

    async def stream(self, blob_id: str) -> AsyncIterator[bytes]:
        """A file in pieces.

        Args:
            blob_id: The blob's id.

        Raises:
            BlobNotFound: There is none with this id, before the first piece.
        """
        blob = await self.get(blob_id)
        try:
            found = await obstore.get_async(self.store, str(blob.id))
        except (NotFoundError, FileNotFoundError):
            raise BlobNotFound(str(blob_id)) from None
        async for piece in found.stream():
            yield bytes(piece)

    async def delete(self, blob_id: str) -> None:
        """Remove a file. Nothing happens if it is gone already.

        Args:
            blob_id: The blob's id.
        """
        try:
            blob = await self.get(blob_id)
        except BlobNotFound:
            return
        await (
            blob.delete()
        )  # first, so that what is cut off here leaves a file that `delete_orphans` finds
        with suppress(NotFoundError, FileNotFoundError):
            await obstore.delete_async(self.store, str(blob.id))

    def link(self, blob_id: str, seconds: float = LINK_SECONDS) -> str:
        """An address at which anybody who has it can download the file, for some time.

        Args:
            blob_id: Which file.
            seconds: For how long; an hour by default.
        """
        expires = round(datetime.now(UTC).timestamp() + seconds)
        return get_settings().link_to(f"blobs/{_serializer().dumps([str(blob_id), expires])}")

    async def open_link(self, token: str) -> BlobModel:
        """The blob of a link, by the last part of its address.

        Args:
            token: The last part of the link's address.

        Raises:
            BlobNotFound: The link is not ours, or the blob is gone.
            LinkExpired: It was valid once.
        """
        try:
            blob_id, expires = _serializer().loads(token)
        except BadSignature:
            raise BlobNotFound(token) from None
        if datetime.now(UTC).timestamp() > expires:
            raise LinkExpired(blob_id)
        return await self.get(blob_id)

    async def delete_orphans(self, older_than: timedelta = UPLOAD_AGE) -> int:
        """Remove files that have no record, as an upload leaves that was cut off.

        Args:
            older_than: Younger ones stay.

        Returns:
            How many were removed.
        """
        limit, deleted = datetime.now(UTC) - older_than, 0
        async for batch in obstore.list(self.store, chunk_size=BATCH):
            old = [
                item["path"]
                for item in batch
                if item["last_modified"] < limit and ObjectId.is_valid(item["path"])
            ]
            query = {"_id": {"$in": [ObjectId(path) for path in old]}}
            known = {
                str(blob["_id"])
                async for blob in BlobModel.get_pymongo_collection().find(query, {"_id": True})
            }
            paths = [path for path in old if path not in known]
            await obstore.delete_async(self.store, paths)
            deleted += len(paths)
        return deleted


def _serializer() -> URLSafeSerializer:
    keys = derive_keys(get_settings().secret_keys, "blob")
    return URLSafeSerializer(keys[::-1])  # itsdangerous signs with the last key


blob_service = BlobService()
"""The blobs of this process."""

"""The route that serves the links of `blob_service.link`."""

from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import PurePosixPath
from urllib.parse import quote

import obstore
from fastapi import APIRouter, HTTPException, Response
from fastapi.responses import RedirectResponse, StreamingResponse
from obstore.store import AzureStore, GCSStore, S3Store

from core.models import BlobModel
from core.services.blob import BlobNotFound, LinkExpired, blob_service

REDIRECT_LIFETIME = timedelta(seconds=60)

blobs_router = APIRouter(prefix="/blobs", tags=["blobs"])


@blobs_router.get(
    "/{token}",
    responses={404: {}, 410: {}},
    response_class=StreamingResponse,
    summary="Download a file by its link",
)
async def download(token: str) -> Response:
    """Return the file, or a redirect to a signed link of the object store."""
    try:
        blob = await blob_service.open_link(token)
        return await _redirect(blob) or await _stream(blob)
    except BlobNotFound:
        raise HTTPException(404, "File not found.") from None
    except LinkExpired:
        raise HTTPException(410, "This link has expired.") from None


async def _redirect(blob: BlobModel) -> Response | None:
    """Return a redirect to the store, or None if the store cannot sign links."""
    store = blob_service.store
    if not isinstance(store, S3Store | GCSStore | AzureStore):
        return None
    url = await obstore.sign_async(store, "GET", str(blob.id), REDIRECT_LIFETIME)
    return RedirectResponse(url)


async def _stream(blob: BlobModel) -> Response:
    pieces = blob_service.stream(str(blob.id))
    # Read the first piece now, because a missing file must be answered 404.
    first = await anext(pieces, b"")

    async def body() -> AsyncIterator[bytes]:
        yield first
        async for piece in pieces:
            yield piece

    name = quote(PurePosixPath(blob.name).name)
    headers = {
        "Content-Disposition": f"attachment; filename*=UTF-8''{name}",
        "Content-Length": str(blob.size),
        "X-Content-Type-Options": "nosniff",
        "Cache-Control": "private",
    }
    return StreamingResponse(
        body(),
        headers=headers,
        media_type=blob.content_type,
    )

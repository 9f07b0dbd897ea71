"""Downloads of blobs by the links that `blob_service.link` makes."""

from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import PurePosixPath
from urllib.parse import quote

import obstore
from fastapi import APIRouter, HTTPException, Response
from fastapi.responses import RedirectResponse, StreamingResponse
from obstore.store import AzureStore, GCSStore, S3Store

from core.services.blob import BlobNotFound, LinkExpired, blob_service

REDIRECT_SECONDS = 60

blobs_router = APIRouter(prefix="/blobs", tags=["blobs"])


@blobs_router.get(
    "/{token}",
    responses={404: {}, 410: {}},
    response_class=StreamingResponse,
    summary="Download a file by its link",
)
async def download(token: str) -> Response:
    """The file itself, or a redirection to the store that has it, where that one can sign links too."""
    try:
        blob = await blob_service.open_link(token)
        if isinstance(blob_service.store, S3Store | GCSStore | AzureStore):
            path, lifetime = str(blob.id), timedelta(seconds=REDIRECT_SECONDS)
            return RedirectResponse(
                await obstore.sign_async(blob_service.store, "GET", path, lifetime)
            )
        pieces = blob_service.stream(str(blob.id))
        first = await anext(pieces, b"")  # what is gone is told by the status
    except BlobNotFound:
        raise HTTPException(404, "There is no such file.") from None
    except LinkExpired:
        raise HTTPException(410, "This link has expired.") from None

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
    return StreamingResponse(body(), media_type=blob.content_type, headers=headers)

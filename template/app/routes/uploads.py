"""Uploads: send an image, and watch what is made of it."""

from collections.abc import AsyncIterator

from fastapi import APIRouter, HTTPException, UploadFile
from pydantic import BaseModel
from pymongo.asynchronous.client_session import AsyncClientSession

from app.models.image import ImageModel, ImageStatus
from app.tasks.processing import process_upload
from core.database import with_transaction
from core.services.blob import blob_service
from core.tasks import JobStatus
from core.web import CurrentUser, find_own

router = APIRouter(prefix="/uploads", tags=["uploads"])

PIECE = 1024 * 1024


class Uploaded(BaseModel):
    id: str


class Stage(BaseModel):
    task: str
    status: JobStatus


class Pipeline(BaseModel):
    status: JobStatus
    stages: list[Stage]
    image: ImageStatus
    error: str | None = None
    thumbnail: str | None = None
    optimized: str | None = None


@router.post("", status_code=202, responses={401: {}, 413: {}})
async def upload(file: UploadFile, user: CurrentUser) -> Uploaded:
    """Store an image, and have a thumbnail and a WebP made of it."""
    name = (
        "".join(letter for letter in file.filename or "" if letter.isprintable())[:200] or "image"
    )

    async def create(session: AsyncClientSession) -> ImageModel:
        await file.seek(0)  # where the transaction begins anew
        blob = await blob_service.upload(_pieces(file), name)
        image = await ImageModel(name=name, owner=str(user.id), blob_id=str(blob.id)).insert(
            session=session
        )
        image.pipeline_id = (await process_upload.enqueue(str(image.id))).id
        return await image.save(session=session)

    return Uploaded(id=str((await with_transaction(create)).id))


@router.get("/{upload_id}/pipeline", responses={401: {}, 404: {}})
async def get_pipeline(upload_id: str, user: CurrentUser) -> Pipeline:
    """Where each stage stands, and links to the results."""
    image = await find_own(ImageModel, upload_id, user)
    if not image.pipeline_id:
        raise HTTPException(404, "Nothing was made of it.")
    statuses = await process_upload.job(image.pipeline_id).statuses()
    stages = [
        Stage(task=name, status=status)
        for name, status in zip(process_upload.names, statuses, strict=True)
    ]
    status = next(
        (status for status in statuses if status is not JobStatus.COMPLETED), JobStatus.COMPLETED
    )
    if status is JobStatus.UNKNOWN:  # records of jobs are kept for a week
        status = JobStatus.COMPLETED if image.status is ImageStatus.READY else JobStatus.FAILED
    if status is JobStatus.FAILED and image.status is ImageStatus.WAITING:
        image.status, image.error = (
            ImageStatus.FAILED,
            "It could not be processed. Upload it again.",
        )
    return Pipeline(
        status=status,
        stages=stages,
        image=image.status,
        error=image.error,
        thumbnail=blob_service.link(image.thumbnail_id) if image.thumbnail_id else None,
        optimized=blob_service.link(image.optimized_id) if image.optimized_id else None,
    )


async def _pieces(file: UploadFile) -> AsyncIterator[bytes]:
    while piece := await file.read(PIECE):
        yield piece

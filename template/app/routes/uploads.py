"""Uploads: send an image, follow its processing, and delete it."""

from collections.abc import AsyncIterator
from typing import Annotated

from fastapi import APIRouter, Depends, HTTPException, Request
from pydantic import BaseModel
from pymongo.asynchronous.client_session import AsyncClientSession
from starlette.datastructures import UploadFile

from app.models.image import ImageModel, ImageStatus
from app.settings import app_settings
from app.tasks.processing import process_upload
from core.database import with_transaction
from core.models import BlobModel
from core.services.blob import blob_service
from core.services.limits import Limits, check_limits
from core.tasks import JobStatus
from core.web import ClientAddress, CurrentUser, find_own

router = APIRouter(prefix="/uploads", tags=["uploads"])

MAX_UPLOAD = 25 * 1024 * 1024
UPLOAD_CHUNK = 1024 * 1024
MAX_NAME = 200
UPLOADING = Limits("100 per hour", "500 per hour")
FILE_FORM = {
    "type": "object",
    "properties": {"file": {"type": "string", "format": "binary"}},
    "required": ["file"],
}


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


async def read_file(request: Request, user: CurrentUser) -> AsyncIterator[UploadFile]:
    """Read the file in a form, after the check of the log-in.

    If the route declared the file, FastAPI would read it before this check.
    """
    async with request.form(max_files=1, max_fields=1) as form:
        file = form.get("file")
        if not isinstance(file, UploadFile):
            raise HTTPException(422, "Send a form with a file in the field `file`.")
        yield file


SentFile = Annotated[UploadFile, Depends(read_file)]


@router.post(
    "",
    status_code=202,
    responses={401: {}, 409: {}, 413: {}, 422: {}, 429: {}},
    max_body_size=MAX_UPLOAD,
    openapi_extra={"requestBody": {"content": {"multipart/form-data": {"schema": FILE_FORM}}}},
)
async def upload(file: SentFile, user: CurrentUser, client: ClientAddress) -> Uploaded:
    """Store an image, and enqueue the jobs that create a thumbnail and an optimized version."""
    owner = str(user.id)
    await check_limits("upload", UPLOADING, owner, client)
    # Not in the transaction, which may be retried. If it fails, the file expires.
    blob = await _store(file, owner)

    async def create(session: AsyncClientSession) -> ImageModel:
        image = ImageModel(
            name=blob.name,
            owner=owner,
            blob_id=str(blob.id),
        )
        await image.insert(session=session)
        run = await process_upload.enqueue(str(image.id))
        image.pipeline_id = run.id
        return await image.save(session=session)

    image = await with_transaction(create)
    return Uploaded(id=str(image.id))


@router.delete(
    "/{upload_id}",
    status_code=204,
    responses={401: {}, 404: {}},
)
async def delete_upload(upload_id: str, user: CurrentUser) -> None:
    """Delete an image with its smaller versions. Jobs that still process it are aborted."""
    image = await find_own(ImageModel, upload_id, user)
    if image.pipeline_id:
        run = process_upload.job(image.pipeline_id)
        if await run.status() in (JobStatus.PENDING, JobStatus.RUNNING):
            await run.abort()
    # Read again, because a job may just have created the versions.
    image = await find_own(ImageModel, upload_id, user)
    await image.delete()
    for blob_id in (image.blob_id, image.thumbnail_id, image.optimized_id):
        if blob_id:
            await blob_service.delete(blob_id)


@router.get("/{upload_id}/pipeline", responses={401: {}, 404: {}})
async def get_pipeline(upload_id: str, user: CurrentUser) -> Pipeline:
    """Return the status of each stage, and links to the results."""
    image = await find_own(ImageModel, upload_id, user)
    if not image.pipeline_id:
        raise HTTPException(404, "This image was not processed. Upload it again.")
    run = process_upload.job(image.pipeline_id)
    pipeline = Pipeline(
        status=await run.status(),
        stages=_stages(await run.statuses()),
        image=image.status,
        error=image.error,
        thumbnail=_link(image.thumbnail_id),
        optimized=_link(image.optimized_id),
    )
    if pipeline.status is JobStatus.UNKNOWN:  # the jobs' records have expired
        completed = image.status is ImageStatus.COMPLETED
        pipeline.status = JobStatus.COMPLETED if completed else JobStatus.FAILED
    if pipeline.status is JobStatus.FAILED and image.status is ImageStatus.PENDING:
        pipeline.image = ImageStatus.FAILED
        pipeline.error = "The image could not be processed. Upload it again."
    return pipeline


async def _store(file: UploadFile, owner: str) -> BlobModel:
    blob = await blob_service.upload(
        _read(file),
        _clean(file.filename or ""),
        expires=app_settings.upload_retention,
    )
    # Counted after the upload, so simultaneous requests cannot exceed the quota.
    stored = await BlobModel.find(BlobModel.owner == owner).sum(BlobModel.size)
    if (stored or 0) > app_settings.storage_quota:
        await blob_service.delete(str(blob.id))
        quota = app_settings.storage_quota // 1024**2
        message = f"Your files would take more than {quota} MB. Delete an upload first."
        raise HTTPException(409, message)
    return blob


def _clean(name: str) -> str:
    printable = "".join(filter(str.isprintable, name))
    return printable[:MAX_NAME] or "image"


async def _read(file: UploadFile) -> AsyncIterator[bytes]:
    while chunk := await file.read(UPLOAD_CHUNK):
        yield chunk


def _stages(statuses: list[JobStatus]) -> list[Stage]:
    named = zip(process_upload.names, statuses, strict=True)
    return [Stage(task=name, status=status) for name, status in named]


def _link(blob_id: str | None) -> str | None:
    return blob_service.link(blob_id) if blob_id else None

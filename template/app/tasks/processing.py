"""Uploaded images, processed by a chain of tasks."""

from pymongo.asynchronous.client_session import AsyncClientSession

from app.models.image import ImageModel, ImageStatus
from app.services.image import UnusableImage, image_service
from app.services.user_email import email_file
from core.context import TaskContext
from core.database import with_transaction
from core.services.blob import blob_service
from core.tasks import Limit, PermanentError
from core.tasks.worker import worker

# Images take long. Without limits, the images of a few users would hold all slots, and emails
# would wait. Each task counts its own jobs.
IN_ALL = Limit(concurrency=4)
PER_USER = Limit(concurrency=1, key=lambda **_: TaskContext.get_actor())


@worker.task(max_retries=3, timeout=120, priority="low", limit=[IN_ALL, PER_USER])
async def process_uploaded_image(image_id: str) -> dict[str, str]:
    """Create the thumbnail and the optimized version of an uploaded image.

    Args:
        image_id: The id of the image.

    Raises:
        PermanentError: The file cannot be used as an image.
    """
    image = await ImageModel.get(image_id)
    if not image:
        return {"status": "skipped", "reason": "image_not_found"}
    if image.status is not ImageStatus.COMPLETED:  # a job may run twice
        await _create_versions(image)
    return {"status": "completed", "image_id": image_id}


@worker.task(max_retries=3, timeout=60, priority="low", limit=[IN_ALL, PER_USER])
async def validate_file(file_id: str) -> str:
    """Check that an uploaded file is an image.

    Args:
        file_id: The id of the image.

    Returns:
        The id, for the next stage.

    Raises:
        PermanentError: There is no such image, or the file cannot be used as an image.
    """
    image = await ImageModel.get(file_id)
    if not image:
        raise PermanentError(f"image {file_id} does not exist")
    data = await blob_service.download(image.blob_id)
    try:
        await image_service.validate(data)
    except UnusableImage as error:
        await _mark_failed(image, error)
        raise PermanentError(f"{image.name}: {error}") from error
    return file_id


@worker.task(max_retries=3, timeout=120, priority="low", limit=[IN_ALL, PER_USER])
async def process_file(file_id: str) -> str:
    """Process an image as a stage of the chain.

    Args:
        file_id: The id of the image.

    Returns:
        The id, for the next stage.

    Raises:
        PermanentError: The file cannot be used as an image.
    """
    await process_uploaded_image(file_id)
    return file_id


@worker.task(max_retries=5, retry_delay=30, timeout=60)
async def notify_user(file_id: str, status: str = "completed") -> dict[str, str]:
    """Email the link of the optimized image to the user who uploaded it.

    Args:
        file_id: The id of the image.
        status: The status that the subject shows.
    """
    image = await ImageModel.get(file_id)
    if not image or not image.optimized_id:
        return {"status": "skipped", "reason": "image_not_processed"}
    return await email_file(
        image.owner,
        "upload",
        f"{image.name}: {status}",
        image.optimized_id,
        file=image.name,
    )


process_upload = validate_file | process_file | notify_user
"""Each stage gets the result of the one before it. If a stage fails, the rest is aborted."""


async def _create_versions(image: ImageModel) -> None:
    original = await blob_service.download(image.blob_id)
    try:
        optimized = await image_service.optimize(original)
        thumbnail = await image_service.create_thumbnail(optimized)  # faster than the original
    except UnusableImage as error:
        await _mark_failed(image, error)
        raise PermanentError(f"{image.name}: {error}") from error

    async def store(session: AsyncClientSession) -> None:
        # In one transaction, so that an interrupted or second run leaves no unused blob.
        current = await ImageModel.get(image.id, session=session)
        if not current or current.status is ImageStatus.COMPLETED:
            return
        thumb_blob = await blob_service.upload(
            thumbnail,
            f"thumbs/{image.name}.webp",
        )
        opt_blob = await blob_service.upload(
            optimized,
            f"optimized/{image.name}.webp",
        )
        current.thumbnail_id = str(thumb_blob.id)
        current.optimized_id = str(opt_blob.id)
        current.status = ImageStatus.COMPLETED
        current.error = None
        await current.save(session=session)

    await with_transaction(store)


async def _mark_failed(image: ImageModel, error: UnusableImage) -> None:
    image.status = ImageStatus.FAILED
    image.error = str(error)
    await image.save()

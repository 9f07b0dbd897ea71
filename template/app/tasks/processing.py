"""Uploaded files, worked on in stages."""

from pymongo.asynchronous.client_session import AsyncClientSession

from app.models.image import ImageModel, ImageStatus
from app.services.image import UnusableImage, image_service
from core.database import with_transaction
from core.models import UserModel
from core.services.blob import blob_service
from core.services.email import render_email, send_email
from core.tasks import PermanentError
from core.tasks.worker import worker


@worker.task(max_retries=3, timeout=120)
async def process_uploaded_image(image_id: str) -> dict[str, str]:
    """Make a thumbnail and an optimised WebP of an uploaded image."""
    image = await ImageModel.get(image_id)
    if not image:
        return {"status": "skipped", "reason": "image_not_found"}
    if image.status is ImageStatus.READY:  # a job may run again
        return {"status": "completed", "image_id": image_id}

    original = await blob_service.download(image.blob_id)
    try:
        thumbnail = await image_service.create_thumbnail(original)
        optimized = await image_service.optimize(original)
    except UnusableImage as error:
        raise await _failed(image, error) from error

    async def store(session: AsyncClientSession) -> None:
        # Together, so that no run that is cut off, and none of two at once, leaves a blob that nothing refers to.
        image = await ImageModel.get(image_id, session=session)
        if not image or image.status is ImageStatus.READY:
            return
        thumb_blob = await blob_service.upload(thumbnail, f"thumbs/{image_id}.webp")
        opt_blob = await blob_service.upload(optimized, f"optimized/{image_id}.webp")
        image.thumbnail_id, image.optimized_id = str(thumb_blob.id), str(opt_blob.id)
        image.status, image.error = ImageStatus.READY, None
        await image.save(session=session)

    await with_transaction(store)
    return {"status": "completed", "image_id": image_id}


@worker.task(max_retries=3, timeout=60)
async def validate_file(file_id: str) -> str:
    """Refuse what is no image, before anything is made of it."""
    image = await ImageModel.get(file_id)
    if not image:
        raise PermanentError(f"there is no image {file_id}")
    try:
        await image_service.validate(await blob_service.download(image.blob_id))
    except UnusableImage as error:
        raise await _failed(image, error) from error
    return file_id


@worker.task(max_retries=3, timeout=120)
async def process_file(file_id: str) -> str:
    """Make of it what there is to make."""
    await process_uploaded_image(file_id)
    return file_id


@worker.task(max_retries=5, retry_delay=30, timeout=60)
async def notify_user(file_id: str, status: str = "completed") -> dict[str, str]:
    """Tell whoever has uploaded it."""
    image = await ImageModel.get(file_id)
    user = await UserModel.get(image.owner) if image else None
    if not image or not user or not image.optimized_id:
        return {"status": "skipped", "reason": "nobody_to_tell"}
    link = blob_service.link(image.optimized_id)
    html, text = render_email("upload", name=user.display_name, file=image.name, link=link)
    await send_email(
        to_email=user.email, subject=f"{image.name}: {status}", html_content=html, text_content=text
    )
    return {"status": "sent", "user_email": user.email}


process_upload = validate_file | process_file | notify_user
"""Each stage gets the result of the one before; none waits for another. A stage that fails stops the rest."""


async def _failed(image: ImageModel, error: UnusableImage) -> PermanentError:
    image.status, image.error = ImageStatus.FAILED, str(error)
    await image.save()
    return PermanentError(f"{image.name} cannot be used: {error}")

# processing.py
from app.models.image import ImageModel
from app.services.image import image_service
from app.tasks.worker import worker
from core.services.blob import blob_service

@worker.task()
async def process_uploaded_image(image_id: str) -> dict:
    """Process uploaded image: generate thumbnails, optimize, etc."""

    image = await ImageModel.get(image_id)
    if not image:
        return {"status": "error", "reason": "image_not_found"}

    # Download original
    original_bytes = await blob_service.download(image.blob_id)

    # Create variants
    thumbnail = await image_service.create_thumbnail(original_bytes)
    optimized = await image_service.optimize(original_bytes)

    # Upload variants
    thumb_blob = await blob_service.upload(thumbnail, f"thumbs/{image_id}.webp")
    opt_blob = await blob_service.upload(optimized, f"optimized/{image_id}.webp")

    # Update image record
    image.thumbnail_id = str(thumb_blob.id)
    image.optimized_id = str(opt_blob.id)
    await image.save()

    return {"status": "completed", "image_id": image_id}


# Stand-ins.
@worker.task()
async def validate_file(file_id: str) -> dict:
    return {"valid": file_id != "broken"}


@worker.task()
async def process_file(file_id: str) -> dict:
    return {"processed": file_id}


@worker.task()
async def notify_user(file_id: str, state: str) -> None: ...


@worker.task()
async def process_upload(file_id: str) -> dict:
    """Process file upload in stages."""

    # Stage 1: Validate
    validation = await validate_file.enqueue(file_id)
    result1 = await validation.result()

    if result1["valid"]:
        # Stage 2: Process
        processing = await process_file.enqueue(file_id)
        result2 = await processing.result()

        # Stage 3: Notify
        await notify_user.enqueue(file_id, "completed")

        return {"status": "completed", "stages": [result1, result2]}

    return {"status": "failed", "reason": "invalid_file"}

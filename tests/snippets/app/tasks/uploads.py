from app.tasks.worker import worker


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

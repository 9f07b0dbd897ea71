from app.pasted.notes import note
from app.tasks.worker import worker
from core.services.blob import blob_service
# paste: app-tasks.md, Data Processing


@worker.task
async def validate_file(file_id: str) -> dict:
    return {"valid": file_id != "broken"}


@worker.task
async def process_file(file_id: str) -> dict:
    return {"processed": file_id}


@worker.task
async def notify_user(file_id: str, status: str) -> None:
    note("notified", file_id, status)


# paste: app-tasks.md, Chain Tasks

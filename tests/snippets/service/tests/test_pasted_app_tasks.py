"""The snippets of app-tasks.md, on a real worker."""

import asyncio
from datetime import UTC, datetime, timedelta
from io import BytesIO

import pytest
from PIL import Image

from app.models.image import ImageModel
from app.models.order import Order
from app.models.session import Session
from app.tasks import cleanup, emails, external, processing, reports
from app.tasks.worker import worker
from core.services.blob import blob_service
from core.testing import eventually

# paste: app-tasks.md, Testing Tasks


async def test_app_tasks(client, user, mailbox, notes, api, completed, running_worker):
    await check_emails(client, user, mailbox)
    fetched = await external.fetch_external_data.enqueue(api)
    assert await fetched.result(30) == {"answer": 42}
    await check_errors(completed)
    await check_report()
    await check_image()
    await check_cleanup(user)
    await check_stages(notes)


async def check_emails(client, user, mailbox):
    signed_up = (await client.post("/signup?email=new@example.com")).json()
    job = worker.job(signed_up["task_id"])
    assert await job.result(30) == {"status": "sent", "user_email": "new@example.com"}

    status, result = await manage(user.id)
    assert status in ("pending", "running", "completed")
    assert result["status"] == "sent"
    scheduled = await schedule(user.id)
    assert await scheduled.status() == "scheduled"
    due = datetime.fromtimestamp((await scheduled.record()).at)
    assert timedelta(minutes=59) < due - datetime.now() < timedelta(minutes=61)

    reset = await emails.send_password_reset.enqueue(user.id, "t-1")
    assert await reset.result(30) == {"status": "sent"}
    assert await (await emails.send_daily_digest.enqueue()).result(30) == {"sent_count": 2}
    assert [(mail["To"], mail["Subject"]) for mail in mailbox.messages] == [
        ("new@example.com", "Welcome!"),
        ("ada@example.com", "Welcome!"),
        ("ada@example.com", "Reset Your Password"),
    ]
    body = mailbox.messages[-1].get_body(("plain",)).get_content()
    assert "https://example.com/reset?token=t-1" in body


async def manage(user_id):
    # paste: app-tasks.md, Monitoring
    return status, result


async def schedule(user_id):
    # paste: app-tasks.md, Task Scheduling
    return task


async def check_errors(completed):
    unreliable = completed(external.unreliable_task, "data", jobs=200)
    busy = completed(external.risky_operation, "busy")
    assert await asyncio.gather(unreliable, busy) == [
        {"status": "success", "data": "DATA"},
        {"status": "success", "result": "BUSY"},
    ]
    for data_id, expected in {
        "good": {"status": "success", "result": "GOOD"},
        "missing": {"status": "skipped", "reason": "not_found"},
        "bad": {"status": "failed", "error": "bad data"},
    }.items():
        assert await (await external.risky_operation.enqueue(data_id)).result(30) == expected


async def check_image():
    file = BytesIO()
    Image.new("RGB", (640, 480), "red").save(file, "JPEG")
    blob = await blob_service.upload(file.getvalue(), "red.jpg")
    image = await ImageModel(name="red.jpg", owner="1", blob_id=str(blob.id)).insert()
    job = await processing.process_uploaded_image.enqueue(str(image.id))
    assert await job.result(30) == {"status": "completed", "image_id": str(image.id)}
    image = await ImageModel.get(image.id)
    thumbnail = Image.open(BytesIO(await blob_service.download(image.thumbnail_id)))
    assert thumbnail.size == (320, 240)
    optimized = Image.open(BytesIO(await blob_service.download(image.optimized_id)))
    assert optimized.format == "WEBP"


async def check_cleanup(user):
    now = datetime.now(UTC)
    for days in (-31, 1):
        session = Session(
            token_hash=str(days), user_id=user.id, expires_at=now + timedelta(days=days)
        )
        await session.insert()
    job = await cleanup.cleanup_expired_sessions.enqueue()
    assert await job.result(30) == {"status": "completed", "deleted_count": 1}
    assert [session.token_hash async for session in Session.find_all()] == ["1"]


async def check_stages(notes):
    process = processing.process_upload
    stages = [{"valid": True}, {"processed": "f-1"}]
    result = await (await process.enqueue("f-1")).result(30)
    assert result == {"status": "completed", "stages": stages}
    assert await eventually(lambda: "notified f-1 completed" in notes())
    result = await (await process.enqueue("broken")).result(30)
    assert result == {"status": "failed", "reason": "invalid_file"}


async def check_report():
    for day in (1, 15, 30):
        created_at = datetime(2027, 1, day, tzinfo=UTC)
        order = {"product": "Pen", "quantity": 1, "price": "1.50", "created_at": created_at}
        await Order(owner="1", **order).insert()
    job = await reports.generate_sales_report.enqueue("2027-01-01", "2027-01-20")
    report = await job.result(30)
    assert (report["status"], report["order_count"]) == ("completed", 2)
    assert (await blob_service.download(report["blob_id"])).startswith(b"%PDF")

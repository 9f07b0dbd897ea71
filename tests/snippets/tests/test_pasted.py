"""The snippets that were pasted into this service do what their documents say."""

import asyncio
import logging
from datetime import UTC, datetime, timedelta
from io import BytesIO

import pytest
from PIL import Image

from app.tasks import backends, external, processing, scheduled
from app.models.image import ImageModel
from app.models.order import Order
from app.routes import in_process
from app.tasks.emails import send_daily_digest, send_password_reset, send_welcome_email
from app.tasks.cleanup import cleanup_expired_sessions
from app.tasks.reports import generate_sales_report
from app.tasks.scheduled import cleanup_old_logs
from app.tasks.worker import worker
from core.background import create_background_task, run_background_task
from core.context import TaskContext
from core.models import AuditModel
from core.services.blob import blob_service
from core.tasks import JobFailed
from core.testing import eventually
from tests.test_webhooks import as_user, development, receiver, subscribe


@pytest.mark.asyncio
async def test_send_welcome_email(db, user):
    """Test welcome email task."""

    # Run task directly (not queued)
    result = await send_welcome_email(str(user.id))

    assert result["status"] == "sent"
    assert result["user_email"] == user.email

# For integration tests, use enqueue:
async def test_task_queue(db, user):
    task = await send_welcome_email.enqueue(str(user.id))
    result = await task.result(timeout=10)
    assert result["status"] == "sent"


async def test_task_management(db, user, running_worker, mailbox):
    user_id = user.id

    task = await send_welcome_email.enqueue(user_id)

    # Check status
    status = await task.status()  # "pending", "running", "completed", "failed"
    assert status in ("pending", "running", "completed")

    # Get result (waits if not complete)
    result = await task.result(timeout=30)
    assert result["status"] == "sent"

    # Schedule for later
    task = await send_welcome_email.enqueue(
        user_id,
        scheduled_at=datetime.now() + timedelta(hours=1)
    )
    assert await task.status() == "scheduled"

    # Abort running task
    await task.abort()
    assert await task.status() == "aborted"

    reset = await send_password_reset.enqueue(user_id, "t-1")
    assert await reset.result(timeout=10) == {"status": "sent"}
    assert await (await send_daily_digest.enqueue()).result(timeout=10) == {"sent_count": 1}
    assert [mail["Subject"] for mail in mailbox.messages] == ["Welcome!", "Reset Your Password"]


async def test_reports_and_cleanup(db):
    for day in (1, 31):
        time = datetime(2027, 1, day, 12, tzinfo=UTC)
        await Order(owner="1", product="Engine", quantity=1, price="1", created_at=time).insert()
    report = await (await generate_sales_report.enqueue("2027-01-01", "2027-01-31")).result(timeout=10)
    assert (report["status"], report["order_count"]) == ("completed", 2)
    assert (await blob_service.download(report["blob_id"])).startswith(b"%PDF")
    assert await cleanup_expired_sessions() == {"status": "completed", "deleted_count": 0}


async def test_context_retries_and_errors(db, httpserver_url):
    fetched = await external.fetch_external_data.enqueue(httpserver_url)
    assert await fetched.result(timeout=10) == {"answer": 42}
    unreliable = await external.unreliable_task.enqueue("data")
    assert await unreliable.result(timeout=10) == {"status": "success", "data": "DATA"}
    for data_id, expected in {
        "good": {"status": "success", "result": "good"},
        "missing": {"status": "skipped", "reason": "not_found"},
        "bad": {"status": "failed", "error": "bad data"},
    }.items():
        assert await (await external.risky_operation.enqueue(data_id)).result(timeout=10) == expected
    busy = await external.risky_operation.enqueue("busy")
    with pytest.raises(JobFailed, match="TransientError: busy"):
        await busy.result(timeout=10)
    assert (await busy.record()).attempt == 4


@pytest.fixture
async def httpserver_url():
    async def answer(reader, writer):
        await reader.readuntil(b"\r\n\r\n")
        body = b'{"answer": 42}'
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\nConnection: close\r\n\r\n%s" % (len(body), body))
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    async with server:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/"


async def test_an_image(db):
    file = BytesIO()
    Image.new("RGB", (640, 480), "red").save(file, "JPEG")
    blob = await blob_service.upload(file.getvalue(), "red.jpg")
    image = await ImageModel(name="red.jpg", owner="1", blob_id=str(blob.id)).insert()
    done = await (await processing.process_uploaded_image.enqueue(str(image.id))).result(timeout=10)
    assert done == {"status": "completed", "image_id": str(image.id)}
    image = await ImageModel.get(image.id)
    assert Image.open(BytesIO(await blob_service.download(image.thumbnail_id))).size == (320, 240)
    assert Image.open(BytesIO(await blob_service.download(image.optimized_id))).format == "WEBP"


async def test_stages_that_wait_for_each_other(db):
    result = await (await processing.process_upload.enqueue("f-1")).result(timeout=10)
    assert result == {"status": "completed", "stages": [{"valid": True}, {"processed": "f-1"}]}
    result = await (await processing.process_upload.enqueue("broken")).result(timeout=10)
    assert result == {"status": "failed", "reason": "invalid_file"}


async def test_schedules(db):
    await cleanup_old_logs()

    # List all tasks
    tasks = await worker.schedules.list()
    for task in tasks:
        print(f"{task.id}: {task.status}")
        print(f"  Last run: {task.last_run}")
        print(f"  Next run: {task.next_run}")
    assert {task.id: task.enabled for task in tasks} == {
        definition["id"]: definition["enabled"] for definition in scheduled.TASK_DEFINITIONS
    }
    assert worker.tasks["sync_external_data"].options.timeout == 1800
    assert worker.tasks["send_daily_reports"].options.max_retries == 2
    job_id = await worker.schedules.run_now("sync_external_data")
    assert await worker.job(job_id).result(timeout=10) is None


async def test_backends(db):
    update = backends.update_user_profile
    assert await (await update.enqueue(1, {"name": "Ada"})).result(timeout=10) == {"status": "updated"}
    assert await (await update.enqueue(1, {"name": "Ada"})).result(timeout=10) == {"status": "already_updated"}
    assert await (await backends.process_with_retry.enqueue({"a": 1})).result(timeout=10) == {"a": 1}
    assert await (await backends.step_one.enqueue({})).result(timeout=10) == {"one": True}
    assert await eventually(lambda: backends.steps) == [{"one": True, "two": True, "three": True}]
    with pytest.raises(JobFailed, match="TransientError: not now"):
        await (await backends.robust_task.enqueue({"fail": True})).result(timeout=10)
    async with asyncio.timeout(10):
        while not await worker.dead_letters.list(task="robust_task"):
            await asyncio.sleep(0.05)
    timed = await backends.timed_task.enqueue({})
    assert (await timed.result(timeout=10))["task_id"] == timed.id


logger = logging.getLogger(__name__)
seen: list[str | None] = []


# Stand-ins.
async def compute_result(data):
    return data


async def save_result(result):
    seen.append(TaskContext.get_correlation_id())


async def risky_operation(data):
    raise ValueError(data)


notified: list[str] = []


async def notify_admin(text):
    notified.append(text)


async def my_handler(data_item):
    # This will generate a new correlation ID if one doesn't exist
    task = create_background_task(process_data, data_item)
    return {"status": "processing"}

async def process_data(data):
    # The correlation ID from the parent context is automatically propagated
    # All logging and events in this task will have the same correlation ID
    result = await compute_result(data)
    await save_result(result)


async def my_api_handler(request_id: str):
    # Use the request ID as the correlation ID for better tracing
    task = create_background_task(
        process_request,
        "request_data",
        correlation_id=request_id
    )
    return {"status": "processing", "request_id": request_id}


async def process_request(data):
    # Get the correlation ID that was propagated to this task
    correlation_id = TaskContext.get_correlation_id()

    # Use it in logs or other context
    logger.info(f"Processing data with correlation ID: {correlation_id}")
    seen.append(correlation_id)


async def my_error_handling_task(important_data):
    try:
        await run_background_task(
            risky_operation,
            important_data
        )
    except Exception as e:
        # Additional error handling beyond the automatic logging
        await notify_admin(f"Background task failed: {e}")


async def test_correlation_ids(caplog):
    assert await my_handler("item") == {"status": "processing"}
    with TaskContext.use("request-1"):
        await my_handler("item")
    await my_api_handler("request-2")
    await asyncio.sleep(0.05)
    assert seen[0]
    assert seen[1:] == ["request-1", "request-2"]
    await my_error_handling_task("important")
    assert notified == ["Background task failed: important"]
    assert "background task failed" in caplog.text


async def test_background_tasks_of_fastapi(app, client, user, httpserver_url, caplog):
    app.include_router(in_process.app, prefix="/pasted")  # the service has its own /orders
    calls = [
        ("POST", "/tasks?title=Test", {}, ["Log: Created: Test"]),
        ("POST", "/notify?email=a@example.com", {}, ["sent Hello to a@example.com"]),
        ("POST", "/many-tasks", {}, ["Log: Task created", "update_search_index", "send_notification", "update_analytics"]),
        ("POST", "/process", {}, ["Processed: some data"]),
        ("GET", "/items", {}, ["Log: Request received"]),
        ("POST", "/risky", {}, []),
        ("POST", "/orders", {"json": {"customer_email": "a@example.com"}}, ["confirmed 7 to a@example.com"]),
        ("DELETE", "/users/7", {"headers": {"X-Request-ID": "delete-7"}}, []),
        ("POST", "/upload", {"files": {"file": ("a.txt", b"a")}}, ["processed a.txt"]),
    ]
    for method, path, options, expected in calls:
        in_process.ran.clear()
        assert (await client.request(method, f"/pasted{path}", **options)).status_code == 200
        assert in_process.ran == expected
    assert "Task failed: broken" in caplog.text
    (entry,) = await AuditModel.find_all().to_list()
    assert (entry.action, entry.correlation_id) == ("user_deleted", "delete-7")
    assert (entry.actor, entry.subject) == (None, "7")  # nobody is logged in


async def test_webhooks_as_background_tasks(development, app, client, user, as_user, receiver):
    await subscribe(user, receiver.url)
    app.include_router(in_process.app)
    in_process.subscriber_webhooks.append(receiver.url)
    response = await client.post("/pasted-events", json={"id": "e-1", "kind": "paid"})
    assert response.json() == {"event_id": "e-1"}
    ((headers, body),) = receiver.received
    assert (headers["webhook-id"], body) == ("e-1", b'{"id": "e-1", "kind": "paid"}')

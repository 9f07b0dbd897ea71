import asyncio
import logging
from datetime import datetime

from fastapi import APIRouter, BackgroundTasks, Depends, UploadFile
from pydantic import BaseModel

from app.tasks.webhooks import deliver_webhook
from core.services.audit import audit_log

app = APIRouter()
logger = logging.getLogger(__name__)


# Stand-ins.
ran: list[str] = []
task_id, user_id = 1, 2
subscriber_webhooks: list[str] = []


class Order(BaseModel):
    customer_email: str


class Event(BaseModel):
    id: str
    kind: str


class new_order:
    id = 7


def process(data: str):
    raise ValueError(data)


def update_search_index(task_id: int):
    ran.append("update_search_index")


def send_notification(user_id: int):
    ran.append("send_notification")


def update_analytics(event: str):
    ran.append("update_analytics")


def send_order_confirmation(email: str, order_id: int):
    ran.append(f"confirmed {order_id} to {email}")


def process_and_cleanup(file_path: str):
    ran.append(f"processed {file_path}")


def write_log(message: str):
    # This runs after response is sent
    ran.append(f"Log: {message}")

@app.post("/tasks")
def create_task(title: str, background_tasks: BackgroundTasks):
    # Create task...

    # Queue background task
    background_tasks.add_task(write_log, f"Created: {title}")

    return {"message": "Created"}  # Returns immediately


def send_email(to: str, subject: str, body: str):
    # Send email...
    ran.append(f"sent {subject} to {to}")

@app.post("/notify")
def notify(email: str, background_tasks: BackgroundTasks):
    background_tasks.add_task(
        send_email,
        to=email,
        subject="Hello",
        body="World"
    )
    return {"message": "Notification queued"}


@app.post("/many-tasks")
def create_many_tasks(background_tasks: BackgroundTasks):
    # Queue multiple tasks
    background_tasks.add_task(write_log, "Task created")
    background_tasks.add_task(update_search_index, task_id)
    background_tasks.add_task(send_notification, user_id)
    background_tasks.add_task(update_analytics, "task_created")

    return {"message": "Created with 4 background tasks"}


async def async_process(data: str):
    await asyncio.sleep(0.01)
    ran.append(f"Processed: {data}")

@app.post("/process")
async def process_later(background_tasks: BackgroundTasks):
    background_tasks.add_task(async_process, "some data")
    return {"message": "Processing started"}


def log_dependency(background_tasks: BackgroundTasks):
    background_tasks.add_task(write_log, "Request received")
    return background_tasks

@app.get("/items")
def get_items(bg: BackgroundTasks = Depends(log_dependency)):
    return {"items": []}


def risky_task(data: str):
    try:
        # Do something risky
        process(data)
    except Exception as e:
        # Log error - don't crash
        logger.error(f"Task failed: {e}")
        # Optional: send alert, retry, etc.

@app.post("/risky")
def risky(background_tasks: BackgroundTasks):
    background_tasks.add_task(risky_task, "broken")


@app.post("/orders")
def create_order(order: Order, background_tasks: BackgroundTasks):
    # Create order...

    background_tasks.add_task(
        send_order_confirmation,
        email=order.customer_email,
        order_id=new_order.id
    )

    return {"order_id": new_order.id}


@app.delete("/users/{user_id}")
def delete_user(user_id: int, background_tasks: BackgroundTasks):
    # Delete user...

    background_tasks.add_task(
        audit_log,
        action="user_deleted",
        user_id=user_id,
        timestamp=datetime.now()
    )

    return {"message": "Deleted"}


@app.post("/upload")
def upload(file: UploadFile, background_tasks: BackgroundTasks):
    # Save file...
    saved_path = file.filename

    background_tasks.add_task(
        process_and_cleanup,
        file_path=saved_path
    )

    return {"status": "Processing started"}


@app.post("/pasted-events")
def create_event(event: Event, background_tasks: BackgroundTasks):
    # Create event...

    for webhook_url in subscriber_webhooks:
        background_tasks.add_task(
            deliver_webhook,
            url=webhook_url,
            payload=event.dict()
        )

    return {"event_id": event.id}

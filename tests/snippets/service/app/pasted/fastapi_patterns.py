from datetime import datetime
from types import SimpleNamespace

from fastapi import APIRouter, BackgroundTasks, Depends, UploadFile
from pydantic import BaseModel

from app.pasted.notes import note
from app.tasks.webhooks import deliver_webhook
from core.services.audit import audit_log
from core.web import current_user

app = APIRouter(prefix="/patterns", dependencies=[Depends(current_user)])
new_order = SimpleNamespace(id=7)
saved_path = "/uploads/a.txt"
subscriber_webhooks: list[str] = []


class Order(BaseModel):
    customer_email: str


class Event(BaseModel):
    id: str
    kind: str


def send_order_confirmation(email: str, order_id: int) -> None:
    note("confirmed", order_id, email)


def process_and_cleanup(file_path: str) -> None:
    note("processed", file_path)


# paste: fastapi-background-tasks.md, Pattern 1: Email Notification

# paste: fastapi-background-tasks.md, Pattern 2: Audit Logging

# paste: fastapi-background-tasks.md, Pattern 3: File Processing

# paste: fastapi-background-tasks.md, Pattern 4: Webhook Delivery

"""Reports, made as jobs and kept as blobs."""

from collections.abc import AsyncIterator
from datetime import UTC, date, datetime, time, timedelta

from pymongo.asynchronous.client_session import AsyncClientSession

from app.models.order import Order
from app.services.export import export_service
from core.context import TaskContext
from core.database import with_transaction
from core.models import UserModel
from core.services.blob import blob_service
from core.services.email import render_email, send_email
from core.tasks import PermanentError, report_progress
from core.tasks.worker import worker

BATCH = 1000


@worker.task(max_retries=3, retry_delay=60, timeout=1800)
async def generate_sales_report(start_date: str, end_date: str) -> dict[str, str | int]:
    """Make a PDF of what was sold from one day to another, and mail its link to whoever asked for it.

    The orders are read in batches, so that any number of them takes the same memory.
    """
    start, end = _day(start_date), _day(end_date, later=1)
    query = Order.find(Order.created_at >= start, Order.created_at < end)
    count = await query.count()

    async def orders() -> AsyncIterator[Order]:
        done = 0
        async for order in query.find_many(batch_size=BATCH):
            done += 1
            if done % BATCH == 0:
                await report_progress(done, count, "reading orders")
            yield order

    title = f"Sales from {start_date} to {end_date}"
    report = await export_service.create_pdf_report(orders(), title)

    async def store(session: AsyncClientSession) -> str:
        # Report and mail together: the mail may be tried again, and the report is there once.
        blob = await blob_service.upload(report, f"reports/sales_{start_date}_{end_date}.pdf")
        if requester := TaskContext.get_actor():
            await send_report.enqueue(requester, title, str(blob.id))
        return str(blob.id)

    return {"status": "completed", "blob_id": await with_transaction(store), "order_count": count}


@worker.task(max_retries=5, retry_delay=30, timeout=60)
async def send_report(user_id: str, title: str, blob_id: str) -> dict[str, str]:
    """Tell whoever asked for a report that it is there."""
    user = await UserModel.get(user_id)
    if not user:
        return {"status": "skipped", "reason": "user_not_found"}
    html, text = render_email(
        "report", name=user.display_name, title=title, link=blob_service.link(blob_id)
    )
    await send_email(to_email=user.email, subject=title, html_content=html, text_content=text)
    return {"status": "sent", "user_email": user.email}


def _day(text: str, later: int = 0) -> datetime:
    """The beginning of a day, or of one that comes some days later."""
    try:
        return datetime.combine(date.fromisoformat(text), time(), UTC) + timedelta(days=later)
    except (ValueError, OverflowError):
        raise PermanentError(f"{text!r} is no day such as 2027-01-31") from None

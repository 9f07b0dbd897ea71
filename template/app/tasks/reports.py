"""Reports, created as jobs and stored as blobs."""

from collections.abc import AsyncIterable, AsyncIterator
from datetime import UTC, date, datetime, time, timedelta

from pymongo.asynchronous.client_session import AsyncClientSession

from app.models.order import Order
from app.services.export import export_service
from app.services.user_email import email_file
from app.settings import app_settings
from core.context import TaskContext
from core.database import with_transaction
from core.services.blob import blob_service
from core.tasks import PermanentError, report_progress
from core.tasks.worker import worker

ORDER_BATCH = 1000
ONE_DAY = timedelta(days=1)


@worker.task(max_retries=3, retry_delay=60, timeout=1800)
async def generate_sales_report(
    start_date: str,
    end_date: str,
) -> dict[str, str | int]:
    """Create a PDF of the sales in a period, and email its link to the user who requested it.

    Args:
        start_date: The first day, such as `2027-01-01`.
        end_date: The last day.

    Raises:
        PermanentError: A date is not valid.
    """
    start = _start_of_day(start_date)
    end = _start_of_day(end_date, days_later=1)
    query = Order.find(Order.created_at >= start, Order.created_at < end)
    count = await query.count()
    # In batches, so that any number of orders needs the same memory.
    orders = query.find_many(batch_size=ORDER_BATCH)
    title = f"Sales from {start_date} to {end_date}"
    report = await export_service.create_pdf_report(
        _with_progress(orders, count),
        title,
        start.date(),
        end.date() - ONE_DAY,
    )
    name = f"reports/sales_{start_date}_{end_date}.pdf"
    return {
        "status": "completed",
        "blob_id": await _store(report, name, title),
        "order_count": count,
    }


@worker.task(max_retries=5, retry_delay=30, timeout=60)
async def send_report(
    user_id: str,
    title: str,
    blob_id: str,
) -> dict[str, str]:
    """Email the link of a report to a user.

    Args:
        user_id: The user's id.
        title: The title of the report.
        blob_id: The blob of the report.
    """
    return await email_file(
        user_id,
        "report",
        title,
        blob_id,
        title=title,
    )


async def _store(report: bytes, name: str, title: str) -> str:
    user_id = TaskContext.get_actor()

    async def store(session: AsyncClientSession) -> str:
        # In one transaction, so that a retry neither loses the email nor stores a second report.
        blob = await blob_service.upload(
            report,
            name,
            expires=app_settings.report_retention,
        )
        blob_id = str(blob.id)
        if user_id:
            await send_report.enqueue(user_id, title, blob_id)
        return blob_id

    return await with_transaction(store)


async def _with_progress(
    orders: AsyncIterable[Order],
    total: int,
) -> AsyncIterator[Order]:
    done = 0
    async for order in orders:
        yield order
        done += 1
        if done % ORDER_BATCH == 0:
            await report_progress(done, total, "reading orders")


def _start_of_day(text: str, days_later: int = 0) -> datetime:
    try:
        day = date.fromisoformat(text) + timedelta(days=days_later)
    except (ValueError, OverflowError):
        raise PermanentError(f"{text!r} is not a valid date, such as 2027-01-31") from None
    return datetime.combine(day, time(), UTC)

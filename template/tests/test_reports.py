"""Reports: over HTTP, to the numbers that stand in the PDF."""

from datetime import UTC, datetime, timedelta
from io import BytesIO
from typing import Any

import pytest
from pypdf import PdfReader

from app.models.order import Order
from app.tasks.reports import generate_sales_report, send_report
from core.config import get_settings
from core.context import TaskContext
from core.models import BlobModel
from core.services.blob import blob_service
from core.tasks import JobFailed, PermanentError
from core.testing import eventually

START = datetime(2027, 1, 1, tzinfo=UTC)


@pytest.fixture
async def orders(db) -> None:
    """Two orders on each of 60 days, and one of the year before."""
    days = [START + timedelta(days=day, hours=23) for day in range(60) for _ in range(2)]
    sold = [
        Order(
            customer="Ada", product="Engine", quantity=number % 3 + 1, price="19.99", created_at=day
        )
        for number, day in enumerate(days)
    ]
    before = Order(
        customer="Ada",
        product="Engine",
        quantity=1,
        price="1000",
        created_at=START - timedelta(seconds=1),
    )
    await Order.insert_many([*sold, before])


def text_of(pdf: bytes) -> str:
    return "\n".join(page.extract_text() for page in PdfReader(BytesIO(pdf)).pages)


async def test_generate_sales_report(orders):
    result = await generate_sales_report("2027-01-01", "2027-03-01")

    assert result["order_count"] == 120
    blob = await blob_service.get(str(result["blob_id"]))
    assert blob.name == "reports/sales_2027-01-01_2027-03-01.pdf"
    pdf = await blob_service.download(str(result["blob_id"]))
    assert len(PdfReader(BytesIO(pdf)).pages) == 2
    text = text_of(pdf)
    assert "Sales from 2027-01-01 to 2027-03-01" in text
    assert "2027-01-01 2 3 59.97" in text
    assert "Total 120 240 4,797.60" in text
    assert "1,000" not in text


async def test_nothing_was_sold(db):
    result = await generate_sales_report("2027-01-01", "2027-01-02")
    assert "Nothing was sold." in text_of(await blob_service.download(str(result["blob_id"])))


async def test_a_wrong_day_is_not_tried_again(db):
    job = await generate_sales_report.enqueue("2027-01-01", "tomorrow")
    with pytest.raises(JobFailed, match="'tomorrow' is no day"):
        await job.result(timeout=10)
    assert (await job.record()).attempt == 1


async def test_a_report_is_asked_for_made_and_mailed(
    client, signed_in, orders, mailbox, running_worker
):
    wanted = {"start_date": "2027-01-01", "end_date": "2027-01-31"}
    response = await client.post("/reports", json=wanted)
    assert response.status_code == 202
    address = f"/reports/{response.json()['job_id']}"

    async def completed() -> dict[str, Any] | None:
        report = (await client.get(address)).json()
        return report if report["status"] == "completed" else None

    report = await eventually(completed)
    assert report
    downloaded = await client.get(report["link"])
    assert downloaded.headers["content-type"] == "application/pdf"
    assert "Total 62 123" in text_of(downloaded.content)
    (mail,) = await eventually(lambda: mailbox.messages)
    assert mail["Subject"] == "Sales from 2027-01-01 to 2027-01-31"
    assert "http://127.0.0.1:8000/blobs/" in mail.get_body(("plain",)).get_content()
    assert (await client.get("/reports/nothing")).status_code == 404


async def test_a_range_must_be_in_order(client, signed_in):
    response = await client.post(
        "/reports", json={"start_date": "2027-02-01", "end_date": "2027-01-01"}
    )
    assert response.status_code == 422


async def test_a_report_is_there_once_though_its_mail_is_tried_again(db, user, monkeypatch):
    monkeypatch.setenv("SMTP_URL", "smtp://127.0.0.1:1")
    get_settings.cache_clear()
    with TaskContext.use(actor=str(user.id)):
        job = await generate_sales_report.enqueue("2027-01-01", "9999-12-30")
        assert (await job.result(timeout=10))["status"] == "completed"
    assert await BlobModel.count() == 1
    with pytest.raises(PermanentError, match="'9999-12-31' is no day"):
        await generate_sales_report("2027-01-01", "9999-12-31")


async def test_the_mail_of_a_report(db, user, mailbox):
    assert await send_report(str(user.id), "Sales", "1") == {
        "status": "sent",
        "user_email": user.email,
    }
    assert [mail["Subject"] for mail in mailbox.messages] == ["Sales"]
    assert (await send_report("000000000000000000000000", "Sales", "1"))["status"] == "skipped"


async def test_reports_are_for_users(client):
    wanted = {"start_date": "2027-01-01", "end_date": "2027-01-31"}
    assert (await client.post("/reports", json=wanted)).status_code == 401

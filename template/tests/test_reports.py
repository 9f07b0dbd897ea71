"""Reports, from the request to the numbers in the PDF."""

import re
from datetime import UTC, datetime, timedelta
from io import BytesIO
from typing import Any

import pytest
from pypdf import PdfReader

from app.models.order import Order
from app.services.chart import make_ticks
from app.services.export import export_service
from app.settings import app_settings
from app.tasks.reports import generate_sales_report, send_report
from core.config import get_settings
from core.context import TaskContext
from core.models import BlobModel
from core.services.blob import blob_service
from core.services.limits import Limits
from core.tasks import JobFailed, PermanentError
from core.testing import eventually

NO_ID = "000000000000000000000000"
START = datetime(2027, 1, 1, tzinfo=UTC)
JANUARY = {"start_date": "2027-01-01", "end_date": "2027-01-31"}


def make_order(created_at: datetime, quantity: int, price: str) -> Order:
    return Order(
        owner=NO_ID,
        product="Engine",
        quantity=quantity,
        price=price,
        created_at=created_at,
    )


@pytest.fixture
async def orders(db) -> None:
    """Two orders on each of 60 days, and one order in the year before."""
    orders = [make_order(START - timedelta(seconds=1), 1, "1000")]
    for number in range(120):
        time = START + timedelta(days=number // 2, hours=23)
        orders.append(make_order(time, number % 3 + 1, "19.99"))
    await Order.insert_many(orders)


@pytest.fixture
async def admin(signed_in, user) -> None:
    """The user of the fixture `signed_in`, as an administrator."""
    user.is_admin = True
    await user.save()


async def read(blob_id: str) -> PdfReader:
    return PdfReader(BytesIO(await blob_service.download(blob_id)))


def text_of(pdf: PdfReader) -> str:
    return "\n".join(page.extract_text() for page in pdf.pages)


async def test_generate_sales_report(orders):
    result = await generate_sales_report("2027-01-01", "2027-03-01")

    assert result["order_count"] == 120
    blob_id = str(result["blob_id"])
    blob = await blob_service.get(blob_id)
    assert blob.name == "reports/sales_2027-01-01_2027-03-01.pdf"
    pdf = await read(blob_id)
    assert len(pdf.pages) == 2
    text = text_of(pdf)
    assert "Sales from 2027-01-01 to 2027-03-01" in text
    assert "2027-01-01 2 3 59.97" in text
    assert "Total 120 240 4,797.60" in text
    assert "1,000" not in text


async def test_the_chart_covers_the_whole_period(orders):
    result = await generate_sales_report("2026-12-01", "2027-12-31")

    text = text_of(await read(str(result["blob_id"])))
    lines = text.splitlines()
    (axis,) = re.findall(r"^\d{4}-\d\d-\d\d \d{4}-.*", text, re.MULTILINE)
    assert axis.startswith("2026-12-01 ")
    assert axis.endswith(" 2027-12-31")
    assert {"0", "250", "500", "750", "1,000"} <= set(lines)


async def test_a_report_names_the_currency(orders, monkeypatch):
    monkeypatch.setattr(app_settings, "currency", "CHF")
    result = await generate_sales_report("2027-01-01", "2027-01-01")

    text = text_of(await read(str(result["blob_id"])))
    assert "Revenue by day in CHF" in text
    assert "Revenue (CHF)" in text


@pytest.mark.parametrize(
    ("highest", "ticks"),
    [
        (0, [0, 1]),
        (0.03, [0, 0.01, 0.02, 0.03]),
        (59.97, [0, 20, 40, 60]),
        (100, [0, 25, 50, 75, 100]),
        (101, [0, 50, 100, 150]),
        (9e9, [0, 2.5e9, 5e9, 7.5e9, 10e9]),
    ],
)
def test_the_scale_is_round(highest, ticks):
    assert make_ticks(highest) == pytest.approx(ticks)


async def test_a_report_without_dates_covers_the_days_with_sales(orders):
    title = "Sales of everything in every region, in every year, and at any price " * 2
    report = await export_service.create_pdf_report(Order.find(), title)

    text = text_of(PdfReader(BytesIO(report)))
    assert text.count("2026-12-31") == 2  # below the chart and in the table
    assert "at any price" in text


async def test_a_title_may_have_any_characters(orders):
    report = await export_service.create_pdf_report(Order.find(), "Größen ab 5 € 日本")

    assert "Größen ab 5 € ??" in text_of(PdfReader(BytesIO(report)))


async def test_a_report_without_sales(db):
    result = await generate_sales_report("2027-01-01", "2027-01-02")
    assert "There were no sales." in text_of(await read(str(result["blob_id"])))


async def test_an_invalid_date_is_not_retried(db):
    job = await generate_sales_report.enqueue("2027-01-01", "tomorrow")
    with pytest.raises(JobFailed, match="'tomorrow' is not a valid date"):
        await job.result(timeout=30)
    assert (await job.record()).attempt == 1


async def test_the_day_after_the_last_date_must_exist(db):
    with pytest.raises(PermanentError, match="'9999-12-31' is not a valid date"):
        await generate_sales_report("2027-01-01", "9999-12-31")


async def test_a_report_is_requested_and_emailed(client, admin, orders, mailbox, running_worker):
    response = await client.post("/reports", json=JANUARY)
    assert response.status_code == 202
    address = f"/reports/{response.json()['job_id']}"

    async def completed() -> dict[str, Any] | None:
        report = (await client.get(address)).json()
        return report if report["status"] == "completed" else None

    report = await eventually(completed)
    assert report
    downloaded = await client.get(report["link"])
    assert downloaded.headers["content-type"] == "application/pdf"
    assert "Total 62 123" in text_of(PdfReader(BytesIO(downloaded.content)))
    (mail,) = await eventually(lambda: mailbox.messages)
    assert mail["Subject"] == "Sales from 2027-01-01 to 2027-01-31"
    assert "http://127.0.0.1:8000/blobs/" in mail.get_body(("plain",)).get_content()


async def test_a_period_must_not_end_before_its_start(client, admin):
    form = {"start_date": "2027-02-01", "end_date": "2027-01-01"}
    response = await client.post("/reports", json=form)
    assert response.status_code == 422


async def test_a_failed_email_does_not_create_a_second_report(db, user, monkeypatch):
    monkeypatch.setenv("SMTP_URL", "smtp://127.0.0.1:1")
    get_settings.cache_clear()
    with TaskContext.use(actor=str(user.id)):
        job = await generate_sales_report.enqueue("2027-01-01", "9999-12-30")
        assert (await job.result(timeout=30))["status"] == "completed"
    assert await BlobModel.count() == 1


async def test_send_report(db, user, mailbox):
    result = await send_report(str(user.id), "Sales", "1")
    assert result == {"status": "sent", "user_email": user.email}
    assert [mail["Subject"] for mail in mailbox.messages] == ["Sales"]

    result = await send_report(NO_ID, "Sales", "1")
    assert result == {"status": "skipped", "reason": "user_not_found"}


async def test_reports_need_a_session(client):
    assert (await client.post("/reports", json=JANUARY)).status_code == 401


async def test_reports_are_for_administrators(client, signed_in):
    assert (await client.post("/reports", json=JANUARY)).status_code == 403
    assert (await client.get("/reports/nothing")).status_code == 403
    assert await BlobModel.count() == 0


async def test_reports_are_limited(client, admin, monkeypatch):
    monkeypatch.setattr("app.routes.reports.REQUESTING", Limits("2 per hour", "100 per hour"))
    responses = [await client.post("/reports", json=JANUARY) for _ in range(3)]
    assert [response.status_code for response in responses] == [202, 202, 429]
    assert int(responses[-1].headers["Retry-After"]) > 0


async def test_a_report_expires(db):
    result = await generate_sales_report("2027-01-01", "2027-01-02")
    blob = await blob_service.get(str(result["blob_id"]))
    assert blob.expires_at == blob.created_at + timedelta(days=30)


async def test_an_unknown_report_is_not_found(client, admin):
    assert (await client.get("/reports/nothing")).status_code == 404


async def test_no_link_to_the_file_of_another_user(client, admin, orders):
    """The job belongs to the user, but its file does not."""
    response = await client.post("/reports", json=JANUARY)
    address = f"/reports/{response.json()['job_id']}"

    async def completed() -> bool:
        return (await client.get(address)).json()["status"] == "completed"

    await eventually(completed)
    await BlobModel.find_one().update({"$set": {"owner": NO_ID}})
    assert (await client.get(address)).status_code == 404

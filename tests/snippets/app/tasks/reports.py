# reports.py
from app.models.order import Order
from app.services.export import export_service
from app.tasks.worker import worker
from core.services.blob import blob_service

@worker.task()
async def generate_sales_report(start_date: str, end_date: str) -> dict:
    """Generate sales report for date range."""

    # Fetch data
    orders = await Order.find(
        Order.created_at >= start_date,
        Order.created_at <= end_date
    ).to_list()

    # Generate report
    report_bytes = await export_service.create_pdf_report(orders)

    # Upload to storage
    blob = await blob_service.upload(
        report_bytes,
        f"reports/sales_{start_date}_{end_date}.pdf"
    )

    return {
        "status": "completed",
        "blob_id": str(blob.id),
        "order_count": len(orders)
    }

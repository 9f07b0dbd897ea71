"""Orders as documents."""

import asyncio
from collections.abc import AsyncIterable, Iterable
from datetime import date

from app.models.order import Order
from app.services.sales import SalesByDay


class ExportService:
    """Creates documents from orders. Use the instance `export_service`."""

    async def create_pdf_report(
        self,
        orders: Iterable[Order] | AsyncIterable[Order],
        title: str = "Sales report",
        start: date | None = None,
        end: date | None = None,
    ) -> bytes:
        """Return a PDF with a chart and a table of the sales by day.

        Args:
            orders: The orders. They need not be sorted.
            title: The title of the document.
            start: The first day of the chart. Defaults to the first day with sales.
            end: The last day of the chart. Defaults to the last day with sales.
        """
        # Imported here, because fpdf takes 20 MB, which a process without PDFs does not need.
        from app.services.sales_pdf import draw_sales

        sales = SalesByDay()
        if isinstance(orders, AsyncIterable):
            async for order in orders:
                sales.add(order)
        else:
            for order in orders:
                sales.add(order)
        # In a thread, because drawing would block the other jobs of the worker.
        limits = [day for day in (start, end) if day]
        return await asyncio.to_thread(draw_sales, sales, title, limits)


export_service = ExportService()

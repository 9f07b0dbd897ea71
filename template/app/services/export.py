"""Orders as documents."""

import asyncio
from collections import defaultdict
from collections.abc import AsyncIterable, Iterable, Sequence
from dataclasses import dataclass
from datetime import date
from decimal import Decimal

from app.models.order import Order
from app.services.chart import DayChart
from app.services.pdf import PdfDocument
from app.settings import app_settings


@dataclass
class Sales:
    """The sales of one day, or of all days."""

    orders: int = 0
    units: int = 0
    revenue: Decimal = Decimal()

    def add(self, order: Order) -> None:
        """Add an order.

        Args:
            order: The order.
        """
        self.orders += 1
        self.units += order.quantity
        self.revenue += order.price * order.quantity


class SalesByDay:
    """The sales of some days. The size depends on the number of days, not of orders.

    Attributes:
        days: The sales of each day.
        total: The sales of all days.
    """

    def __init__(self) -> None:
        self.days: dict[date, Sales] = defaultdict(Sales)
        self.total = Sales()

    def add(self, order: Order) -> None:
        """Add an order to its day and to the total.

        Args:
            order: The order.
        """
        day = order.created_at.date()
        self.days[day].add(order)
        self.total.add(order)


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
        sales = SalesByDay()
        if isinstance(orders, AsyncIterable):
            async for order in orders:
                sales.add(order)
        else:
            for order in orders:
                sales.add(order)
        # In a thread, because drawing would block the other jobs of the worker.
        limits = [day for day in (start, end) if day]
        return await asyncio.to_thread(_draw, sales, title, limits)


def _draw(sales: SalesByDay, title: str, limits: Sequence[date]) -> bytes:
    document = PdfDocument(title)
    if sales.days:
        _draw_chart(document, sales, limits)
        _draw_table(document, sales)
    else:
        document.cell(text="There were no sales.")
    return bytes(document.output())


def _draw_chart(
    document: PdfDocument,
    sales: SalesByDay,
    limits: Sequence[date],
) -> None:
    days = [*limits, *sales.days]
    revenue = {day: float(found.revenue) for day, found in sales.days.items()}
    caption = f"Revenue by day in {app_settings.currency}"
    document.cell(text=caption, new_x="LMARGIN", new_y="NEXT")
    document.ln(4)
    DayChart(document, revenue, min(days), max(days)).draw()


def _draw_table(document: PdfDocument, sales: SalesByDay) -> None:
    rows = [_row(day.isoformat(), found) for day, found in sorted(sales.days.items())]
    total = _row("Total", sales.total)
    headings = ["Day", "Orders", "Units", f"Revenue ({app_settings.currency})"]
    document.draw_table(headings, rows, total)


def _row(label: str, sales: Sales) -> list[str]:
    return [
        label,
        f"{sales.orders:,}",
        f"{sales.units:,}",
        f"{sales.revenue:,.2f}",
    ]


export_service = ExportService()

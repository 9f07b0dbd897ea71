"""The sales report as a PDF."""

from collections.abc import Sequence
from datetime import date

from app.services.chart import DayChart
from app.services.pdf import PdfDocument
from app.services.sales import Sales, SalesByDay
from app.settings import app_settings


def draw_sales(sales: SalesByDay, title: str, limits: Sequence[date]) -> bytes:
    """Return a PDF with a chart and a table.

    Args:
        sales: The sales.
        title: The title of the document.
        limits: Further days that the chart includes.
    """
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

"""Orders as documents for people."""

import asyncio
from collections import defaultdict
from collections.abc import AsyncIterable, Iterable
from dataclasses import dataclass, field
from datetime import UTC, date, datetime
from decimal import Decimal

from fpdf import FPDF, FontFace

from app.models.order import Order

MARGIN, CHART_HEIGHT = 15, 55
DARK, LIGHT = (38, 70, 115), (232, 238, 246)


@dataclass
class Sales:
    """What was sold on each day; its size is that of the range, not that of the orders."""

    orders: dict[date, int] = field(default_factory=lambda: defaultdict(int))
    pieces: dict[date, int] = field(default_factory=lambda: defaultdict(int))
    revenue: dict[date, Decimal] = field(default_factory=lambda: defaultdict(Decimal))

    def add(self, order: Order) -> None:
        day = order.created_at.date()
        self.orders[day] += 1
        self.pieces[day] += order.quantity
        self.revenue[day] += order.price * order.quantity


class ExportService:
    """Makes files of orders."""

    async def create_pdf_report(
        self, orders: Iterable[Order] | AsyncIterable[Order], title: str = "Sales report"
    ) -> bytes:
        """A PDF with a chart and a table of what was sold on each day, and the totals."""
        sales = Sales()
        if isinstance(orders, AsyncIterable):
            async for order in orders:
                sales.add(order)
        else:
            for order in orders:
                sales.add(order)
        return await asyncio.to_thread(
            _draw, sales, title
        )  # it computes, and would hold up other jobs


def _draw(sales: Sales, title: str) -> bytes:
    pdf = _Report(title)
    pdf.set_title(title)
    pdf.set_margin(MARGIN)
    pdf.set_auto_page_break(True, margin=20)
    pdf.add_page()
    pdf.set_font("helvetica", size=10)
    days = sorted(sales.orders)
    if not days:
        pdf.cell(text="Nothing was sold.")
        return bytes(pdf.output())
    _draw_chart(pdf, [(day, sales.revenue[day]) for day in days])
    headings = FontFace(emphasis="BOLD", color=255, fill_color=DARK)
    with pdf.table(
        headings_style=headings,
        borders_layout="NONE",
        cell_fill_color=LIGHT,
        cell_fill_mode="ROWS",
        line_height=6,
        text_align=("LEFT", "RIGHT", "RIGHT", "RIGHT"),
    ) as table:
        table.row(("Day", "Orders", "Pieces", "Revenue"))
        for day in days:
            figures = (
                f"{sales.orders[day]:,}",
                f"{sales.pieces[day]:,}",
                f"{sales.revenue[day]:,.2f}",
            )
            table.row((day.isoformat(), *figures))
        totals = (sum(sales.orders.values()), sum(sales.pieces.values()))
        revenue = sum(sales.revenue.values(), Decimal())
        table.row(
            ("Total", *(f"{total:,}" for total in totals), f"{revenue:,.2f}"),
            style=FontFace(emphasis="BOLD", fill_color=255),
        )
    return bytes(pdf.output())


def _draw_chart(pdf: FPDF, revenue: list[tuple[date, Decimal]]) -> None:
    """A bar for each day, as high as its revenue."""
    most = max(float(value) for _, value in revenue) or 1.0
    left, top, width = pdf.l_margin, pdf.get_y(), pdf.epw
    bottom = top + CHART_HEIGHT
    step = width / len(revenue)
    pdf.set_fill_color(*DARK)
    for number, (_, value) in enumerate(revenue):
        height = float(value) / most * (CHART_HEIGHT - 8)
        pdf.rect(left + number * step + step * 0.1, bottom - height, step * 0.8, height, style="F")
    pdf.line(left, bottom, left + width, bottom)
    pdf.set_font_size(8)
    pdf.text(left, top + 4, f"Revenue by day, at most {most:,.2f}")
    pdf.text(left, bottom + 4, revenue[0][0].isoformat())
    last = revenue[-1][0].isoformat()
    pdf.text(left + width - pdf.get_string_width(last), bottom + 4, last)
    pdf.set_y(bottom + 10)
    pdf.set_font_size(10)
    pdf.set_fill_color(255)


class _Report(FPDF):
    """Title and page number on each page."""

    def __init__(self, title: str) -> None:
        super().__init__()
        self._title = title
        self._made = datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC")

    def header(self) -> None:
        self.set_font("helvetica", "B", 16 if self.page_no() == 1 else 9)
        self.cell(text=self._title, new_x="LMARGIN", new_y="NEXT")
        self.ln(4)

    def footer(self) -> None:
        self.set_y(-14)
        self.set_font("helvetica", size=8)
        self.cell(text=self._made)
        self.cell(0, text=f"Page {self.page_no()} of {{nb}}", align="R")


export_service = ExportService()

"""A bar chart of days, drawn in a PDF. Lengths are in millimetres."""

from collections.abc import Mapping
from datetime import date, timedelta
from math import ceil, floor, log10

from fpdf import FPDF

HEIGHT = 60
DARK = (38, 70, 115)
GREY = (215, 221, 229)
WHITE = 255
FONT_SIZE = 8
LABEL_HEIGHT = 4
LABEL_GAP = 2
MAX_LABELS = 7
"""Days that are named below the chart."""

BAR_SHARE = 0.8
"""The share of a day's width that its bar fills. The rest is the gap to the next bar."""

MIN_BAR, MAX_BAR = 0.3, 15
TICKS = 4
ROUND_NUMBERS = (1, 2, 2.5, 5, 10)


class DayChart:
    """A chart of one value for each day. Days without a value are gaps.

    Args:
        pdf: The document. The chart starts at its current position.
        values: The values, none of which is negative. There is at least one.
        start: The first day of the axis.
        end: The last day of the axis.
    """

    def __init__(
        self,
        pdf: FPDF,
        values: Mapping[date, float],
        start: date,
        end: date,
    ) -> None:
        self._pdf = pdf
        self._values = values
        self._start = start
        self._days = (end - start).days + 1
        self._ticks = make_ticks(max(values.values()))
        self._font_size = pdf.font_size_pt
        pdf.set_font_size(FONT_SIZE)
        widths = [pdf.get_string_width(_show(tick)) for tick in self._ticks]
        self._left = pdf.l_margin + pdf.c_margin + max(widths) + LABEL_GAP
        self._right = pdf.l_margin + pdf.epw
        self._top = pdf.get_y()
        self._bottom = self._top + HEIGHT

    def draw(self) -> None:
        """Draw the chart, and move below it."""
        self._draw_scale()
        self._draw_bars()
        self._draw_days()
        self._pdf.set_font_size(self._font_size)
        self._pdf.set_y(self._bottom + 2 * LABEL_HEIGHT)

    def _draw_scale(self) -> None:
        pdf = self._pdf
        pdf.set_draw_color(*GREY)
        for tick in self._ticks:
            y = self._bottom - self._height(tick)
            label = _show(tick)
            width = pdf.get_string_width(label)
            pdf.line(self._left, y, self._right, y)
            pdf.text(self._left - width - LABEL_GAP, y + 1, label)

    def _draw_bars(self) -> None:
        pdf = self._pdf
        place = (self._right - self._left) / self._days
        width = min(max(place * BAR_SHARE, MIN_BAR), MAX_BAR)
        pdf.set_fill_color(*DARK)
        for day, value in self._values.items():
            left = self._center(day) - width / 2
            height = self._height(value)
            pdf.rect(left, self._bottom - height, width, height, style="F")
        pdf.set_fill_color(WHITE)

    def _draw_days(self) -> None:
        pdf = self._pdf
        pdf.set_draw_color(0)
        pdf.line(self._left, self._bottom, self._right, self._bottom)
        count = min(self._days, MAX_LABELS)
        for number in range(count):
            offset = round(number * (self._days - 1) / max(count - 1, 1))
            day = self._start + timedelta(days=offset)
            label = day.isoformat()
            center = self._center(day)
            width = pdf.get_string_width(label)
            left = min(center - width / 2, self._right - width)
            pdf.line(center, self._bottom, center, self._bottom + 1)
            pdf.text(left, self._bottom + 1 + LABEL_HEIGHT, label)

    def _center(self, day: date) -> float:
        days = (day - self._start).days
        place = (self._right - self._left) / self._days
        return self._left + (days + 0.5) * place

    def _height(self, value: float) -> float:
        return value / self._ticks[-1] * HEIGHT


def make_ticks(highest: float) -> list[float]:
    """Return a few round numbers, from 0 to the first one that is not below the highest value.

    Args:
        highest: The highest value of the chart.
    """
    smallest_step = (highest or TICKS) / TICKS
    power = 10.0 ** floor(log10(smallest_step))
    steps = (number * power for number in ROUND_NUMBERS)
    step = next(step for step in steps if step >= smallest_step)
    count = max(1, ceil(highest / step))
    return [number * step for number in range(count + 1)]


def _show(tick: float) -> str:
    return f"{tick:,.4f}".rstrip("0").rstrip(".")

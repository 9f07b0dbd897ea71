"""PDF documents with a title and a table."""

from collections.abc import Sequence
from datetime import UTC, datetime

from fpdf import FPDF, FontFace

MARGIN = 15
DARK = (38, 70, 115)
LIGHT = (232, 238, 246)
WHITE = 255
ENCODING = "windows-1252"
"""The characters of the built-in fonts: the letters and signs of western Europe."""

HEADING = FontFace(emphasis="BOLD", color=WHITE, fill_color=DARK)
TOTAL = FontFace(emphasis="BOLD", fill_color=WHITE)


class PdfDocument(FPDF):
    """A document with its title and the page number on each page. Lengths are in millimetres."""

    def __init__(self, title: str) -> None:
        super().__init__()
        self.core_fonts_encoding = ENCODING
        self._title = title
        self._created = datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC")
        self.set_title(title)
        self.set_margin(MARGIN)
        self.set_auto_page_break(True, margin=20)
        self.add_page()
        self.set_font("helvetica", size=10)

    def normalize_text(self, text: str) -> str:
        """Return text as the font needs it. FPDF calls this for all text.

        A built-in font shows `?` for a character that it lacks. To show more characters, add a font
        with `add_font`.

        Args:
            text: The text.
        """
        if not self.is_ttf_font:
            text = text.encode(ENCODING, "replace").decode(ENCODING)
        return super().normalize_text(text)

    def header(self) -> None:
        """Draw the title. FPDF calls this on each page."""
        size = 16 if self.page_no() == 1 else 9
        self.set_font("helvetica", "B", size)
        self.multi_cell(0, text=self._title, align="L", new_x="LMARGIN", new_y="NEXT")
        self.ln(4)

    def footer(self) -> None:
        """Draw the time and the page number. FPDF calls this on each page."""
        page = f"Page {self.page_no()} of {{nb}}"
        self.set_y(-14)
        self.set_font("helvetica", size=8)
        self.cell(text=self._created)
        self.cell(0, text=page, align="R")

    def draw_table(
        self,
        headings: Sequence[str],
        rows: Sequence[Sequence[str]],
        total: Sequence[str],
    ) -> None:
        """Draw a table of one text column and some columns of numbers.

        Args:
            headings: The names of the columns.
            rows: The cells of each row.
            total: The cells of the last row.
        """
        numbers = ["RIGHT"] * (len(headings) - 1)
        with self.table(
            headings_style=HEADING,
            borders_layout="NONE",
            cell_fill_color=LIGHT,
            cell_fill_mode="ROWS",
            line_height=6,
            text_align=("LEFT", *numbers),
        ) as table:
            table.row(headings)
            for row in rows:
                table.row(row)
            table.row(total, style=TOTAL)

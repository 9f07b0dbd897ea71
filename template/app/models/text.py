"""Text that users enter and other people read, for example in an email."""

import re
import unicodedata
from typing import Annotated

from pydantic import AfterValidator, StringConstraints

JOINERS = str.maketrans("", "", "\u200c\u200d")
"""Invisible characters that names in Persian and Indian scripts need."""

LINK = re.compile(
    r"://|@|\b(https?|mailto|sms|tel):|[.\u3002](\d|\w[^\s.,-])",
    re.IGNORECASE,
)
"""Text that mail readers turn into a link: `evil.com` and `192.0.2.1`, but not `J.R.R. Tolkien`.

It also matches `Dr.Smith`. Mail readers link `Evil.Com`, so capitals make no difference, and a list
of all top-level domains would soon be out of date.
"""


def refuse_lines(text: str) -> str:
    """Return the text if it is one line without control characters.

    Args:
        text: The text.

    Raises:
        ValueError: The text has several lines, or control characters.
    """
    if not text.translate(JOINERS).isprintable():
        raise ValueError("enter one line, without control characters")
    return text


def refuse_links(text: str) -> str:
    """Return the text if it contains no link or address.

    Args:
        text: The text.

    Raises:
        ValueError: The text contains a link or an address.
    """
    # NFKC: a mail reader may treat other characters, such as a full-width dot, like the usual ones.
    if LINK.search(unicodedata.normalize("NFKC", text.translate(JOINERS))):
        raise ValueError("enter no link or address; write a space after a dot")
    return text


Line = Annotated[
    str,
    StringConstraints(strip_whitespace=True, min_length=1),
    AfterValidator(refuse_lines),
]
"""The type of a field with one line of text. Add the maximum length with `Field`."""

"""Text that users enter and other people read, for example in an email."""

import re
from typing import Annotated

from pydantic import AfterValidator, StringConstraints

JOINERS = str.maketrans("", "", "\u200c\u200d")
"""Invisible characters that names in Persian and Indian scripts need."""

LINK = re.compile(r"://|@|[.\u3002\uff0e\uff61]\w\w")
"""Text that mail readers turn into a link: also `evil.com`, but not `J. R. R. Tolkien`."""


def refuse_lines(text: str) -> str:
    """Return text if it is one line without control characters.

    Args:
        text: The text.

    Raises:
        ValueError: The text has several lines, or control characters.
    """
    if not text.translate(JOINERS).isprintable():
        raise ValueError("enter one line, without control characters")
    return text


def refuse_links(text: str) -> str:
    """Return text if it contains no link or address.

    Args:
        text: The text.

    Raises:
        ValueError: The text contains one.
    """
    if LINK.search(text.translate(JOINERS)):
        raise ValueError("enter no link or address; write a space after a dot")
    return text


Line = Annotated[
    str,
    StringConstraints(strip_whitespace=True, min_length=1),
    AfterValidator(refuse_lines),
]
"""The type of a field with one line of text. Add the longest length with `Field`."""

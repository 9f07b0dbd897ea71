"""Sensitive texts, left out of log lines and errors."""

import json
from collections.abc import Iterable
from contextvars import ContextVar

MASK = "***"
"""The text that replaces sensitive values."""

_masked: ContextVar[tuple[str, ...]] = ContextVar("masked", default=())


def start_masking() -> None:
    """Forget the texts that are masked in this context."""
    _masked.set(())


def mask_texts(texts: Iterable[str]) -> None:
    """Mask texts in all later log lines of this context, including the lines of libraries.

    Args:
        texts: The sensitive texts.
    """
    forms = set(_masked.get())
    for text in texts:
        # A line may contain a text unchanged, in either form of JSON, or in the output of `repr`.
        forms |= {text, repr(text)[1:-1]}
        forms |= {json.dumps(text, ensure_ascii=each)[1:-1] for each in (True, False)}
    # The longest first, because one text may contain another.
    _masked.set(tuple(sorted(forms, key=len, reverse=True)))


def masked_texts() -> tuple[str, ...]:
    """Return the texts that are masked in this context."""
    return _masked.get()


def mask(text: str) -> str:
    """Return a text with all texts of `mask_texts` masked.

    Args:
        text: A text for a log line or an error.
    """
    for masked in _masked.get():
        text = text.replace(masked, MASK)
    return text

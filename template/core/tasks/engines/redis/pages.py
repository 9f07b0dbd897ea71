"""Pages of jobs: the rows that the script `browse` returns, and their positions."""

import re
from base64 import urlsafe_b64decode, urlsafe_b64encode

from core.tasks.engine import BadPosition, Listed
from core.tasks.engines.redis import records

Row = tuple[int, bytes, bytes, bytes, bytes, bytes]
"""A job: its priority, time, kind of place and place, then its id and its record."""

LAST_TIME = 253_402_300_799.0
"""The end of the year 9999, the last one of `datetime`. A forged job may be due later."""

_POSITION = re.compile(
    rb"([123]) (-?inf|[-+.e\d]{1,40}) (?:(stream) (\d{1,19}-\d{1,19})|(set) (.*))", re.DOTALL
)


def load(rows: list[Row]) -> list[Listed]:
    """Return the jobs of a page, without jobs that have ended and entries without an id."""
    listed = []
    for _, time, _, _, job_id, stored in rows:
        name = job_id.decode(errors="replace")
        record = records.load(name, stored or None)
        if name and not record.state.is_final:
            at = min(max(float(time) / 1000, 0.0), LAST_TIME)
            listed.append(Listed(name, record, at))
    return listed


def pack(row: Row) -> str:
    """Return the position after a job, as text for a URL. Its id may have any bytes."""
    return urlsafe_b64encode(b"%d %b %b %b" % (*row[:4],)).decode()


def unpack(position: str) -> tuple[bytes, ...]:
    """Return a position as the words that the script takes.

    Raises:
        BadPosition: The text is not a position that `pack` returned.
    """
    try:
        found = _POSITION.fullmatch(urlsafe_b64decode(position))
    except ValueError:
        found = None
    if found is None:
        raise BadPosition
    return tuple(word for word in found.groups() if word is not None)

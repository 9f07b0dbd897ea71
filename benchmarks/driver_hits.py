"""Reads what jobs wrote with `hits.py`. `rendering.py` copies this file into the service."""

from pathlib import Path


def read_hits(file: Path) -> list[tuple[int, float]]:
    """Return the number of each job that ran, and the time.

    Args:
        file: The file of hits.
    """
    if not file.exists():
        return []
    lines = [line.split() for line in file.read_text().splitlines()]
    return [(int(number), float(at)) for number, at in lines]

"""Variables with names that are close to the name of a setting."""

from collections.abc import Collection, Iterable, Iterator
from difflib import get_close_matches

SIMILARITY = 0.87
"""Two names are similar from this ratio of `difflib` on: about one wrong letter in eight."""
MIN_LENGTH = 6
"""Shorter names, such as `PORTS`, are too often the name of something else."""


def find_similar(name: str, names: Iterable[str]) -> str | None:
    """Return the name that was probably meant, or None.

    Args:
        name: A name that may be misspelled.
        names: The correct names.
    """
    if len(name) < MIN_LENGTH:
        return None
    candidates = [each for each in names if not _has_more_words(name, each)]
    matches = get_close_matches(name, candidates, n=1, cutoff=SIMILARITY)
    return matches[0] if matches else None


def find_misspelled(variables: Iterable[str], settings: Collection[str]) -> Iterator[str]:
    """Find variables that were probably meant to be a setting.

    Args:
        variables: The names of all variables.
        settings: The names of all settings.

    Yields:
        A line about each misspelled variable.
    """
    for name in sorted({variable.upper() for variable in variables}):
        if name in settings:
            continue
        similar = find_similar(name, settings)
        if similar:
            yield f"{name} is not a setting; did you mean {similar}?"


def _has_more_words(name: str, setting: str) -> bool:
    """Whether a name adds a word to a setting's: `S3_SECRET_KEY` belongs to another program."""
    return set(name.split("_")) > set(setting.split("_"))

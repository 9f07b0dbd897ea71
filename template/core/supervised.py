"""Messages of a process to the `just dev` that started it, through an open file."""

import os

VARIABLE = "DEV_REPORT"
"""The variable with the number of the file descriptor."""
STARTED = "started "
"""Begins the first line of a process that has started."""

_number = os.environ.pop(VARIABLE, None)  # so the children of this process do not use it


def tell_started(description: str) -> None:
    """Say that this process has started.

    Args:
        description: A line for people, such as the address.
    """
    _tell(f"{STARTED}{description}\n")


def tell_error(text: str) -> bool:
    """Say why this process ends.

    Args:
        text: The error.

    Returns:
        Whether `just dev` runs this process. If not, nothing is written.
    """
    return _tell(text)


def _tell(text: str) -> bool:
    if _number is None:
        return False
    os.write(int(_number), text.encode())
    return True

"""Cancellation of asyncio tasks that may lose a cancellation."""

import asyncio
from collections.abc import Iterable
from typing import Any

REPEAT_SECONDS = 1.0


async def cancel_all(tasks: Iterable[asyncio.Task[Any]]) -> None:
    """Cancel tasks, and wait until they have ended.

    In Python 3.11, `asyncio.wait_for` loses a cancellation that arrives together with its result.
    PyMongo calls `wait_for`. A task that has lost a cancellation is cancelled again.

    Args:
        tasks: The tasks. Each one must end when it is cancelled.
    """
    pending = set(tasks)
    while pending:
        for task in pending:
            task.cancel()
        _, pending = await asyncio.wait(pending, timeout=REPEAT_SECONDS)

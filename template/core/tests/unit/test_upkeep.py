"""The work that a worker repeats."""

import asyncio
from contextlib import suppress

from core.tasks.upkeep import repeat


async def test_a_loop_ends_although_its_work_swallows_the_cancellation():
    """PyMongo does so if a server answers at the same moment."""
    began = asyncio.Event()

    async def work() -> None:
        began.set()
        with suppress(asyncio.CancelledError):
            await asyncio.Event().wait()

    loop = asyncio.create_task(repeat("works", work, seconds=3600))
    await began.wait()
    loop.cancel()
    await asyncio.wait([loop], timeout=10)
    assert loop.cancelled()

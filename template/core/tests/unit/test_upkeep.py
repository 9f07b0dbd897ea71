"""The work that a worker repeats."""

import asyncio
from contextlib import suppress

from core.cancelling import cancel_all
from core.tasks.upkeep import repeat
from core.tests.running import WAIT


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


async def test_work_chooses_the_pause_before_its_next_round():
    rounds = asyncio.Semaphore(0)

    async def work() -> float:
        rounds.release()
        return 0.0

    loop = asyncio.create_task(repeat("works", work, seconds=3600))
    async with asyncio.timeout(WAIT):
        for _ in range(3):
            await rounds.acquire()
    await cancel_all([loop])

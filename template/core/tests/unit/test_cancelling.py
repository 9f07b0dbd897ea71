"""Tasks that lose a cancellation end, too."""

import asyncio

from core import cancelling
from core.cancelling import cancel_all


async def test_a_task_that_loses_a_cancellation_is_cancelled_again(monkeypatch):
    """`asyncio.wait_for` of Python 3.11 loses one in this way. Here the first one is lost."""
    monkeypatch.setattr(cancelling, "REPEAT_SECONDS", 0.01)
    started = asyncio.Event()
    lost: list[int] = []

    async def stubborn() -> None:
        while True:
            started.set()
            try:
                await asyncio.sleep(60)
            except asyncio.CancelledError:
                if lost:
                    raise
                lost.append(1)

    task = asyncio.create_task(stubborn())
    await started.wait()
    await cancel_all([task])
    assert task.cancelled()
    assert lost == [1]


async def test_there_may_be_no_task():
    await cancel_all([])

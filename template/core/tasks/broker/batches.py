"""Calls in batches: while one call is made, the items of the next one gather."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from contextvars import Context
from typing import Generic, TypeVar

I = TypeVar("I")  # noqa: E741
O = TypeVar("O")  # noqa: E741

MAX_BATCH = 500


class Batches(Generic[I, O]):
    """Passes items to a function, in batches. It belongs to the running event loop.

    Args:
        work: Takes a batch, and returns a value for each item, in the same order.
        gather: How long items gather after a batch has just ended, in seconds. So a busy process
            makes few large calls, and an idle process makes each call at once.
    """

    def __init__(self, work: Callable[[list[I]], Awaitable[list[O]]], gather: float = 0.0) -> None:
        self._work = work
        self._gather = gather
        self._busy_until = 0.0
        self._waiting: list[tuple[I, asyncio.Future[O]]] = []
        self._worker: asyncio.Task[None] | None = None

    async def run(self, item: I) -> O:
        """Return the value of an item.

        Args:
            item: The item.

        Raises:
            Exception: The error of the function for the batch with this item.
        """
        future: asyncio.Future[O] = asyncio.get_running_loop().create_future()
        self._waiting.append((item, future))
        if self._worker is None or self._worker.done():
            # Without the caller's context: its deadline does not hold for the other callers.
            self._worker = asyncio.create_task(self._work_all(), context=Context())
        return await future

    async def _work_all(self) -> None:
        while self._waiting:
            if time.monotonic() < self._busy_until:
                await asyncio.sleep(self._gather)
            batch, self._waiting = self._waiting[:MAX_BATCH], self._waiting[MAX_BATCH:]
            items = [item for item, _ in batch]
            try:
                values = await self._work_once(items)
            except Exception as error:
                for _, future in batch:
                    if not future.done():
                        future.set_exception(error)
                continue
            for (_, future), value in zip(batch, values, strict=True):
                if not future.done():
                    future.set_result(value)

    async def _work_once(self, items: list[I]) -> list[O]:
        try:
            return await self._work(items)
        finally:
            self._busy_until = time.monotonic() + self._gather

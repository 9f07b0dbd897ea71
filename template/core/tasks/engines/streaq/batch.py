"""Group commit: the requests that many jobs make at the same time travel together."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Generic, TypeVar

T = TypeVar("T")
R = TypeVar("R")

MAX_BATCH = 500


class Batch(Generic[T, R]):
    """Requests of one kind. While one batch is on its way, the next one fills.

    Args:
        run: Processes a batch, and returns a result for each item, in order.
    """

    def __init__(self, run: Callable[[list[T]], Awaitable[Sequence[R]]]) -> None:
        self._run = run
        self._items: list[tuple[T, asyncio.Future[R]]] = []
        self._runner: asyncio.Task[None] | None = None

    async def __call__(self, item: T) -> R:
        """Process an item with the next batch, and return its result.

        Args:
            item: The item.

        Raises:
            Exception: `run` failed, and with it all items of the batch.
        """
        future: asyncio.Future[R] = asyncio.get_running_loop().create_future()
        self._items.append((item, future))
        if self._runner is None:
            self._runner = asyncio.create_task(self._run_all())
        return await future

    async def _run_all(self) -> None:
        try:
            while self._items:
                batch, self._items = (
                    self._items[:MAX_BATCH],
                    self._items[MAX_BATCH:],
                )
                try:
                    results = await self._run([item for item, _ in batch])
                    for (_, future), result in zip(batch, results, strict=True):
                        if not future.done():
                            future.set_result(result)
                except BaseException as error:
                    # Every caller gets an answer, even if this task is cancelled.
                    failure = (
                        error
                        if isinstance(error, Exception)
                        else ConnectionError(f"interrupted by {error!r}")
                    )
                    for _, future in batch:
                        if not future.done():
                            future.set_exception(failure)
                    if failure is not error:
                        raise
        finally:
            self._runner = None
            for _, future in self._items:
                future.cancel()
            self._items.clear()

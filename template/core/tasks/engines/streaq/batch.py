"""Group commit: what many jobs ask of the server at the same time travels together."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Generic, TypeVar

T = TypeVar("T")
R = TypeVar("R")

MAX_BATCH = 500


class Batch(Generic[T, R]):
    """Calls of one kind. While one batch is on its way, the next one gathers.

    Args:
        run: Does all of a batch, and returns a result for each item, in their order.
    """

    def __init__(self, run: Callable[[list[T]], Awaitable[Sequence[R]]]) -> None:
        self._run = run
        self._waiting: list[tuple[T, asyncio.Future[R]]] = []
        self._runner: asyncio.Task[None] | None = None

    async def __call__(self, item: T) -> R:
        """Have an item done.

        Raises:
            Exception: What `run` raises; all items of the batch fail then.
        """
        future: asyncio.Future[R] = asyncio.get_running_loop().create_future()
        self._waiting.append((item, future))
        if self._runner is None:
            self._runner = asyncio.create_task(self._run_all())
        return await future

    async def _run_all(self) -> None:
        try:
            while self._waiting:
                batch, self._waiting = self._waiting[:MAX_BATCH], self._waiting[MAX_BATCH:]
                try:
                    results = await self._run([item for item, _ in batch])
                    for (_, future), result in zip(batch, results, strict=True):
                        if not future.done():
                            future.set_result(result)
                except BaseException as error:
                    # Whatever it is: nobody may be left waiting.
                    failure = (
                        error
                        if isinstance(error, Exception)
                        else ConnectionError(f"cut off by {error!r}")
                    )
                    for _, future in batch:
                        if not future.done():
                            future.set_exception(failure)
                    if failure is not error:
                        raise
        finally:
            self._runner = None
            for _, future in self._waiting:
                future.cancel()
            self._waiting.clear()

"""streaq's worker in this process, from its start until it is stopped or an error ends it."""

import asyncio
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import anyio
from streaq import StreaqRetry, Worker

from core.tasks.broker.broker import RunJob
from core.tasks.engines.streaq.working import AGAIN_SECONDS, StreaqWorker, Take, check_taken

WATCH_SECONDS = 1.0
LEAVE_SECONDS = 3.0
"""How long streaq's worker may take to end after an error."""
SIGNALS = (signal.SIGINT, signal.SIGTERM)

_PRODUCER = f"{Worker.__module__}.{Worker.producer.__qualname__}"
"""The name of the asyncio task in which a worker of streaq takes tickets."""


class Shift:
    """A worker of streaq that runs in the event loop of this process.

    Args:
        make: Takes the function for tickets, and returns streaq's worker.
        run: Runs the job of a ticket.
        jobs: The running jobs of this process, including the jobs that an earlier shift has begun.

    Attributes:
        has_started: Whether streaq's worker has connected.
    """

    def __init__(
        self,
        make: Callable[[Take], StreaqWorker],
        run: RunJob,
        jobs: set["asyncio.Future[bool]"],
    ) -> None:
        self._worker = make(self._take)
        self._run = run
        self._jobs = jobs
        self._left = asyncio.get_running_loop().create_future()
        self._working: asyncio.Task[None] | None = None
        self._is_over = False
        self.has_started = False

    async def work(self, stop: asyncio.Event) -> None:
        """Take tickets until `stop` is set. Running jobs continue after that.

        Args:
            stop: Ends the shift when it is set.

        Raises:
            Exception: An error of streaq's worker, which takes no more tickets.
        """
        self._stop = stop
        working = self._working = asyncio.create_task(self._worker.run_async(task_status=self))
        stopping = asyncio.create_task(stop.wait())
        try:
            while self._takes_tickets() and not stop.is_set():
                await asyncio.wait(
                    {working, stopping},
                    timeout=WATCH_SECONDS,
                    return_when=asyncio.FIRST_COMPLETED,
                )
        finally:
            stopping.cancel()
            self._is_over = True
            working.cancel()  # it takes no more tickets, but waits for its running jobs
        if not stop.is_set():
            await self.leave()

    async def leave(self) -> None:
        """Let streaq's worker end. Running jobs continue without it.

        Raises:
            Exception: An error of streaq's worker.
        """
        if self._working is None:
            return
        if not self._left.done():
            self._left.set_result(None)
        await asyncio.wait({self._working}, timeout=LEAVE_SECONDS)
        if not self._working.done():
            raise TimeoutError
        if not self._working.cancelled():
            self._working.result()

    def started(self, value: None = None) -> None:
        """Note that streaq's worker has connected; streaq calls it."""
        self.has_started = True
        _take_signals_back(self._stop)

    def _takes_tickets(self) -> bool:
        """Return whether streaq's worker takes tickets, or is about to.

        After an error, streaq's worker takes no more, but raises the error only when no job runs.
        """
        if self._working is None or self._working.done():
            return False
        return not self.has_started or any(
            task.name == _PRODUCER for task in anyio.get_running_tasks()
        )

    async def _take(self, job_id: str) -> None:
        if self._is_over or len(self._jobs) >= self._worker.concurrency:
            raise StreaqRetry(delay=AGAIN_SECONDS)
        job = asyncio.ensure_future(self._run(job_id))
        self._jobs.add(job)
        job.add_done_callback(self._jobs.discard)
        await asyncio.wait({job, self._left}, return_when=asyncio.FIRST_COMPLETED)
        if job.done():
            check_taken(job)


@contextmanager
def keep_signal_handlers() -> Iterator[None]:
    """Set the handlers of SIGINT and SIGTERM again after a block."""
    handlers = {number: signal.getsignal(number) for number in SIGNALS}
    try:
        yield
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)


def _take_signals_back(stop: asyncio.Event) -> None:
    """Let SIGINT and SIGTERM set an event again.

    A worker of streaq 7.2 handles these signals even with `handle_signals=False`, and ignores them
    after it has ended. It leaves handlers of the module `signal` in place.
    """
    loop = asyncio.get_running_loop()
    for number in SIGNALS:
        loop.remove_signal_handler(number)
        signal.signal(number, lambda *_: loop.call_soon_threadsafe(stop.set))

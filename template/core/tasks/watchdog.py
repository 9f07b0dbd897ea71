"""Notices when a worker is stuck: its event loop is blocked, or it takes no jobs."""

import asyncio
import os
import sys
import threading
import time
import traceback

from core.logging import get_logger
from core.tasks.engine import Engine
from core.tasks.executor import Executor

logger = get_logger(__name__)

PULSE_SECONDS = 0.5
BLOCKED_SECONDS = 1.0
"""An event loop that is blocked for longer is logged: it stops all jobs of the worker."""
STALLED_SECONDS = 15.0
"""A worker with free slots that takes no job for longer, while a job is pending, is stalled."""
STACK_FRAMES = 8
LOG_SECONDS = 2.0


class Watchdog:
    """Watches one worker from a thread.

    Args:
        engine: The engine that the worker takes jobs from.
        executor: The executor that runs them.
        concurrency: The number of jobs that the worker may run at once.
        limit: Seconds after which a stuck worker ends its process, so that it is restarted; never
            if None.
    """

    def __init__(
        self,
        engine: Engine,
        executor: Executor,
        concurrency: int,
        limit: float | None,
    ) -> None:
        self._engine = engine
        self._executor = executor
        self._concurrency = concurrency
        self._limit = limit
        self._beat: float | None = None
        self._watching_since = 0.0
        self._stalled_since: float | None = None
        self._stop = asyncio.Event()

    async def keep_watching(self, stop: asyncio.Event) -> None:
        """Watch until cancelled.

        Args:
            stop: Set when the worker must take no further job.
        """
        self._stop = stop
        self._watching_since = self._beat = time.monotonic()
        stopped = threading.Event()
        arguments = (threading.get_ident(), stopped)
        threading.Thread(target=self._watch, args=arguments, name="watchdog", daemon=True).start()
        try:
            while True:
                self._beat = time.monotonic()
                await asyncio.sleep(PULSE_SECONDS)
        finally:
            stopped.set()
            self._beat = self._stalled_since = None

    async def check_taking(self) -> None:
        """Find out whether jobs are pending while the worker takes none."""
        since = self._stalled_since
        self._stalled_since = None  # stays so if the queue's server is down: no fault of the worker
        if self._stop.is_set():
            return
        stats = await self._engine.stats()
        has_free_slot = self._executor.running < self._concurrency
        is_late = stats.oldest > STALLED_SECONDS
        if not (has_free_slot and is_late and self._idle_seconds() > STALLED_SECONDS):
            return
        self._stalled_since = since or time.monotonic()
        if since is None:
            oldest = round(stats.oldest, 1)
            logger.error(
                "worker takes no jobs",
                pending=stats.pending,
                oldest_seconds=oldest,
            )

    @property
    def problem(self) -> str | None:
        """Why the worker is stuck, in one line; None if it works."""
        beat = self._beat
        if beat is not None:
            blocked = time.monotonic() - beat
            if blocked > PULSE_SECONDS + BLOCKED_SECONDS:
                return f"the event loop has been blocked for {blocked:.1f} s"
        if self._stalled_since is not None:
            idle = f"{self._idle_seconds():.1f} s"
            return f"jobs are pending, but the worker took no job for {idle} with free slots"
        return None

    def _idle_seconds(self) -> float:
        """Return for how many seconds the worker has taken no job."""
        return time.monotonic() - max(self._executor.taken_at, self._watching_since)

    def _watch(self, loop_thread: int, stopped: threading.Event) -> None:
        stuck_since: float | None = None
        while not stopped.wait(PULSE_SECONDS):
            now, problem = time.monotonic(), self.problem
            if problem is None:
                if stuck_since is not None:
                    _log(
                        "warning",
                        "worker works again",
                        after_seconds=round(now - stuck_since, 1),
                    )
                stuck_since = None
                continue
            if stuck_since is None:
                stuck_since = now
                _log(
                    "error",
                    "worker is stuck",
                    problem=problem,
                    stack=_stack(loop_thread),
                )
            if self._limit is not None and now - stuck_since > self._limit:
                stack = _stack(loop_thread)
                _log(
                    "critical",
                    "worker ends to be restarted",
                    problem=problem,
                    stack=stack,
                )
                os._exit(os.EX_SOFTWARE)


def _log(level: str, event: str, **values: object) -> None:
    """Log without waiting long: the code that blocks the event loop may hold the log too."""
    log = getattr(logger, level)
    writing = threading.Thread(target=log, args=(event,), kwargs=values, daemon=True)
    writing.start()
    writing.join(LOG_SECONDS)


def _stack(thread: int) -> str:
    """Return a thread's stack as text. If the thread is blocked, the last line names the call."""
    frame = sys._current_frames().get(thread)
    if frame is None:
        return ""
    return "".join(traceback.format_stack(frame)[-STACK_FRAMES:])

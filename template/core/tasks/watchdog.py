"""Notices when a worker does not work any more: its event loop is blocked, or it takes no jobs."""

import asyncio
import os
import sys
import threading
import time
import traceback

from core.logging import get_logger
from core.tasks.engine import Engine
from core.tasks.execute import Executor

logger = get_logger(__name__)

PULSE_SECONDS = 0.5
BLOCKED_SECONDS = 1.0
"""From here on a blocked event loop is logged; every job of the worker stands still meanwhile."""
STALLED_SECONDS = 15.0
"""A job that waits for so long, beside a worker that has a free slot and has taken none, is not being taken."""
FRAMES = 8
LOG_SECONDS = 2.0


class Watchdog:
    """Watches one worker, from a thread of its own.

    Args:
        engine: Where its jobs come from.
        executor: Runs them.
        concurrency: How many it runs at once.
        limit: Seconds after which a worker that is stuck ends its process, for whoever starts it anew; never where
            None.
    """

    def __init__(self, engine: Engine, executor: Executor, concurrency: int, limit: float | None) -> None:
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
            stop: Is set when the worker takes no further job.
        """
        self._stop = stop
        self._watching_since = self._beat = time.monotonic()
        stopped = threading.Event()
        watch = threading.Thread(
            target=self._watch, args=(threading.get_ident(), stopped), name="watchdog", daemon=True
        )
        watch.start()
        try:
            while True:
                self._beat = time.monotonic()
                await asyncio.sleep(PULSE_SECONDS)
        finally:
            stopped.set()
            self._beat = self._stalled_since = None

    async def check_taking(self) -> None:
        """Compare what waits in the queue with what the worker takes."""
        since, self._stalled_since = self._stalled_since, None  # an outage of the queue is not the worker's fault
        if self._stop.is_set():
            return  # it is to take none
        stats = await self._engine.stats()
        is_free = self._executor.running < self._concurrency
        if stats.oldest > STALLED_SECONDS and self._idle_seconds() > STALLED_SECONDS and is_free:
            self._stalled_since = since or time.monotonic()
            if since is None:
                logger.error("worker takes no jobs", waiting=stats.waiting, oldest_seconds=round(stats.oldest, 1))

    @property
    def problem(self) -> str | None:
        """What is wrong with the worker, in one line; None where it works."""
        beat = self._beat
        if beat is not None and (blocked := time.monotonic() - beat) > PULSE_SECONDS + BLOCKED_SECONDS:
            return f"the event loop has been blocked for {blocked:.1f} s"
        if self._stalled_since is not None:
            return f"jobs wait, and for {self._idle_seconds():.1f} s none was taken although there are free slots"
        return None

    def _idle_seconds(self) -> float:
        """For how long it has taken no job."""
        return time.monotonic() - max(self._executor.taken_at, self._watching_since)

    def _watch(self, loop_thread: int, stopped: threading.Event) -> None:
        stuck_since: float | None = None
        while not stopped.wait(PULSE_SECONDS):
            now, problem = time.monotonic(), self.problem
            if problem is None:
                if stuck_since is not None:
                    _log("warning", "worker works again", after_seconds=round(now - stuck_since, 1))
                stuck_since = None
                continue
            if stuck_since is None:
                stuck_since = now
                _log("error", "worker is stuck", problem=problem, stack=_stack(loop_thread))
            if self._limit is not None and now - stuck_since > self._limit:
                _log("critical", "worker ends, to be started anew", problem=problem, stack=_stack(loop_thread))
                os._exit(os.EX_SOFTWARE)


def _log(level: str, event: str, **values: object) -> None:
    """Log, but do not wait for long: what blocks the event loop may hold the log, too."""
    writing = threading.Thread(target=getattr(logger, level), args=(event,), kwargs=values, daemon=True)
    writing.start()
    writing.join(LOG_SECONDS)


def _stack(thread: int) -> str:
    """What a thread is doing; where it is blocked, the last line names the call."""
    frame = sys._current_frames().get(thread)
    return "".join(traceback.format_stack(frame)[-FRAMES:]) if frame else ""

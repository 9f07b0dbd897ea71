"""The watchdog: it notices a worker whose event loop is blocked, or that takes no jobs."""

import asyncio
import faulthandler
import logging
import math
import os
import sys
import threading
import time
import traceback
from collections.abc import Callable
from contextlib import suppress
from functools import partial

from core.logging import get_logger
from core.tasks.engine import Engine
from core.tasks.errors import QueueUnavailable
from core.tasks.executor import Executor

logger = get_logger(__name__)

PULSE_SECONDS = 0.5
BLOCKED_SECONDS = 1.0
"""An event loop that is blocked for longer is logged, because it stops all jobs of the worker."""
STALLED_SECONDS = 15.0
"""A worker with free slots that takes no job for longer, while a job is pending, is stalled."""
STACK_FRAMES = 8
BLAME_SECONDS = 8.0
"""A job that blocks the event loop for longer is blamed.

This must happen before another worker takes the jobs of this worker, which seems dead.
"""
WAIT_SECONDS = 4.0
ALARM_SECONDS = 20.0
"""One round of the watchdog is shorter: it waits at most four times for `WAIT_SECONDS`."""
LONGEST_ALARM_SECONDS = 1e9
"""The limit may be infinite, and an alarm has a largest time."""


class Watchdog:
    """Watches one worker from a thread.

    Args:
        engine: The engine that the worker takes jobs from.
        executor: The executor that runs them.
        concurrency: The number of jobs that the worker may run at once.
        limit: Seconds after which a stuck worker ends its process, to be restarted; never if None.
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
        arguments = (asyncio.get_running_loop(), threading.get_ident(), stopped)
        self._set_alarm()  # now, because the first job may hold the GIL
        threading.Thread(
            target=self._watch,
            args=arguments,
            name="watchdog",
            daemon=True,
        ).start()
        try:
            while True:
                self._beat = time.monotonic()
                await asyncio.sleep(PULSE_SECONDS)
        finally:
            stopped.set()
            self._beat = self._stalled_since = None

    async def check_taking(self) -> None:
        """Notice that jobs are pending although the worker has free slots and takes no job."""
        since = self._stalled_since
        # It stays None if the queue's server is down, because the worker is not at fault then.
        self._stalled_since = None
        if self._stop.is_set() or self._engine.paused.is_set():
            return
        stats = await self._engine.stats()
        has_free_slot = self._executor.running < self._concurrency
        is_late = stats.oldest > STALLED_SECONDS
        is_idle = self._idle_seconds() > STALLED_SECONDS
        if not (has_free_slot and is_late and is_idle):
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
        if blocked := self._blocked_seconds():
            return f"the event loop has been blocked for {blocked:.1f} s"
        if self._stalled_since is not None:
            idle = f"{self._idle_seconds():.1f} s"
            return f"jobs are pending, but the worker took no job for {idle} with free slots"
        return None

    def _blocked_seconds(self) -> float:
        """Return for how many seconds the event loop has been blocked; 0 if it works."""
        beat = self._beat
        blocked = 0.0 if beat is None else time.monotonic() - beat
        return blocked if blocked > PULSE_SECONDS + BLOCKED_SECONDS else 0.0

    def _idle_seconds(self) -> float:
        """Return for how many seconds the worker has taken no job."""
        since = max(self._executor.taken_at, self._watching_since)
        return time.monotonic() - since

    def _watch(
        self,
        loop: asyncio.AbstractEventLoop,
        loop_thread: int,
        stopped: threading.Event,
    ) -> None:
        limit = math.inf if self._limit is None else self._limit
        stuck_since: float | None = None
        culprit: dict[str, str] = {}
        is_blamed = False
        while not stopped.wait(PULSE_SECONDS):
            self._set_alarm()
            now = time.monotonic()
            problem = self.problem
            if problem is None:
                if stuck_since is not None:
                    seconds = round(now - stuck_since, 1)
                    _log("warning", "worker works again", after_seconds=seconds, **culprit)
                stuck_since = None
                continue
            stack = _stack(loop_thread)
            job_id = self._executor.find_blocking(loop) if self._blocked_seconds() else None
            seen = {"job_id": job_id} if job_id else {}
            if stuck_since is None:
                stuck_since, culprit, is_blamed = now, seen, False
                _log("error", "worker is stuck", problem=problem, stack=stack, **culprit)
            elif job_id and seen != culprit:
                culprit = {}  # several jobs block in turn
            stuck = now - stuck_since
            if culprit and not is_blamed and stuck > min(BLAME_SECONDS, limit):
                is_blamed = True
                _try(self._blame, **culprit)
            if stuck > limit:
                _log("critical", "worker ends to be restarted", problem=problem, stack=stack)
                _try(logging.shutdown)
                os._exit(os.EX_SOFTWARE)
        if self._limit is not None:
            faulthandler.cancel_dump_traceback_later()

    def _set_alarm(self) -> None:
        """End this process if the watchdog does not run again, because code holds the GIL."""
        if self._limit is None:
            return
        seconds = min(self._limit, LONGEST_ALARM_SECONDS) + ALARM_SECONDS
        with suppress(RuntimeError):  # no further thread can start
            faulthandler.dump_traceback_later(seconds, exit=True, file=2)

    def _blame(self, job_id: str) -> None:
        try:
            self._engine.records.blame(job_id)
        except QueueUnavailable as error:
            reason = str(error)
            logger.warning("job that blocks cannot be marked", job_id=job_id, error=reason)


def _log(level: str, event: str, **values: object) -> None:
    _try(partial(getattr(logger, level), event), **values)


def _try(function: Callable[..., object], **values: object) -> None:
    """Call a function without waiting long: the code that blocks may hold the log's lock."""
    thread = threading.Thread(target=function, kwargs=values, daemon=True)
    with suppress(RuntimeError):  # no further thread can start
        thread.start()
        thread.join(WAIT_SECONDS)


def _stack(thread: int) -> str:
    """Return a thread's stack as text. If the thread is blocked, the last line names the call."""
    frame = sys._current_frames().get(thread)
    if frame is None:
        return ""
    return "".join(traceback.format_stack(frame)[-STACK_FRAMES:])

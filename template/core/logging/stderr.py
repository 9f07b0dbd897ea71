"""A log handler that does not wait for the reader of standard error."""

import logging
import os
import threading
import time
from contextlib import suppress

MAX_CHARACTERS = 4_000_000
"""The longest text that waits for the reader. Further lines are dropped and counted."""
FLUSH_SECONDS = 2.0
PAUSE_SECONDS = 0.02
"""The pause after a write. Waking the thread for each line costs more than the line itself."""

logger = logging.getLogger(__name__)


class StderrHandler(logging.Handler):
    """Writes lines to standard error from a thread.

    A write to a full pipe waits until somebody reads from it. The event loop must not wait.
    """

    def __init__(self) -> None:
        super().__init__()
        self._changed = threading.Condition()
        self._lines: list[str] = []
        self._waiting = 0  # characters
        self._dropped = 0
        self._is_forked = False
        # A forked child process does not have the thread, and the lock may stay locked.
        os.register_at_fork(after_in_child=self._note_fork)
        threading.Thread(target=self._write_lines, name="log", daemon=True).start()

    def emit(self, record: logging.LogRecord) -> None:
        """Format a record and write it."""
        try:
            line = self.format(record)
        except Exception:
            self.handleError(record)
            return
        self.write(line)

    def write(self, text: str) -> None:
        """Hand a line to the thread, or drop it if too many lines wait.

        Args:
            text: The line without its end.
        """
        line = text + "\n"
        if self._is_forked:
            _write(line)
            return
        with self._changed:
            if self._waiting > MAX_CHARACTERS:
                self._dropped += 1
                return
            self._lines.append(line)
            self._waiting += len(line)
            self._changed.notify_all()

    def flush(self) -> None:
        """Wait briefly until all lines are written. The process calls this at its end."""
        if not self._is_forked:
            with self._changed:
                self._changed.wait_for(lambda: not self._waiting, FLUSH_SECONDS)

    def _write_lines(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._lines)
                text = "".join(self._lines)
                self._lines.clear()
            _write(text)
            with self._changed:
                self._waiting -= len(text)
                dropped, self._dropped = self._dropped, 0
                self._changed.notify_all()
            if dropped:
                logger.warning("log lines dropped: nobody read them", extra={"count": dropped})
            time.sleep(PAUSE_SECONDS)

    def _note_fork(self) -> None:
        self._is_forked = True


def _write(text: str) -> None:
    """Write past Python's buffer: at exit, a thread that waits to write would hold its lock."""
    data = text.encode(errors="backslashreplace")
    with suppress(OSError):
        while data:
            data = data[os.write(2, data) :]

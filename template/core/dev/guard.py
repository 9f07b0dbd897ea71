"""Ends the development processes when their supervisor is gone, even where it was killed.

It reads process group ids, one a line, from a pipe that only the supervisor holds open: `+12` to watch one, `-12` to
forget it. When the pipe closes, what is still watched is ended. (Linux alone could do this with a parent-death signal.)
"""

import os
import signal
import sys
import time

PATIENCE_SECONDS = 5.0


def _signal(groups: set[int], number: int) -> set[int]:
    alive = set()
    for group in groups:
        try:
            os.killpg(group, number)
            alive.add(group)
        except ProcessLookupError:
            pass
    return alive


def main() -> None:
    """Wait for the supervisor's end, then end its children: politely first."""
    watched: set[int] = set()
    for line in sys.stdin:
        (watched.add if line[0] == "+" else watched.discard)(int(line[1:]))
    _signal(watched, signal.SIGTERM)
    deadline = time.monotonic() + PATIENCE_SECONDS
    while (watched := _signal(watched, 0)) and time.monotonic() < deadline:
        time.sleep(0.1)
    _signal(watched, signal.SIGKILL)


if __name__ == "__main__":
    main()

"""A process that ends the children of `just dev` after `just dev` has ended, even if it was killed.

The guard reads lines from a pipe that only the supervisor holds open. `+12` adds process group 12,
and `-12` removes it. When the pipe closes, the guard ends the remaining groups. Linux could do this
with a parent-death signal, but macOS has none.
"""

import os
import signal
import sys
import time

PATIENCE_SECONDS = 5.0
POLL_SECONDS = 0.1


def _read_groups() -> set[int]:
    """Read lines until the pipe closes, and return the groups that are left."""
    groups: set[int] = set()
    for line in sys.stdin:
        group = int(line[1:])
        if line[0] == "+":
            groups.add(group)
        else:
            groups.discard(group)
    return groups


def _send(groups: set[int], number: int) -> set[int]:
    """Send a signal to process groups, and return the groups that exist."""
    found = set()
    for group in groups:
        try:
            os.killpg(group, number)
        except ProcessLookupError:
            continue
        found.add(group)
    return found


def main() -> None:
    """Wait for the supervisor's end. Then terminate its children, and kill them if they stay."""
    groups = _send(_read_groups(), signal.SIGTERM)
    deadline = time.monotonic() + PATIENCE_SECONDS
    while groups and time.monotonic() < deadline:
        time.sleep(POLL_SECONDS)
        groups = _send(groups, 0)
    _send(groups, signal.SIGKILL)


if __name__ == "__main__":
    main()

"""Notes each run of a job: its number and the time, a line each, in the file that HITS names."""

import os
import time
from functools import cache
from pathlib import Path

_file = os.open(os.environ["HITS"], os.O_WRONLY | os.O_APPEND | os.O_CREAT)
PAUSE = float(os.environ.get("PAUSE", "0"))
"""Seconds that a job takes."""
URL = os.environ.get("BROKER_URL") or os.environ["REDIS_URL"]
CONCURRENCY = int(os.environ.get("CONCURRENCY", "50"))
IDLE = float(os.environ.get("IDLE", "20"))
"""Seconds after which a job of a worker that was killed may go to another one."""
RESULT_SECONDS = int(os.environ.get("RESULT_SECONDS", "0"))
"""How long results are kept; 0 for no results."""
PROCESSES = int(os.environ.get("PROCESSES", "1"))
"""The processes that begin together."""


@cache
def _begin() -> None:
    """Wait until each process has a job, because some start long before others."""
    file = Path(os.environ["HITS"])
    file.with_suffix(f".{os.getpid()}").touch()
    while len(list(file.parent.glob(f"{file.stem}.*"))) < PROCESSES:
        time.sleep(0.005)


def hit(number: int) -> None:
    _begin()
    os.write(_file, f"{number} {time.time()}\n".encode())

"""Notes each run of a job: its number and the time, a line each, in the file that HITS names."""

import os
import time

_file = os.open(os.environ["HITS"], os.O_WRONLY | os.O_APPEND | os.O_CREAT)
PAUSE = float(os.environ.get("PAUSE", "0"))
"""Seconds that a job takes."""
URL = os.environ["REDIS_URL"]
CONCURRENCY = int(os.environ.get("CONCURRENCY", "50"))
IDLE = float(os.environ.get("IDLE", "20"))
"""Seconds after which a job of a worker that was killed may go to another one."""


def hit(number: int) -> None:
    os.write(_file, f"{number} {time.time()}\n".encode())

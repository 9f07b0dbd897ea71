"""Measures an idle worker. `rendering.py` copies this file into the service."""

import os
import re
import time
from pathlib import Path

from driver_servers import run_worker

WARM_SECONDS = 8.0
STARTED = "worker started"
"""What the worker writes into its log."""


def cpu_seconds(pid: int) -> float:
    """Return the user and system time of a process so far."""
    stat = Path(f"/proc/{pid}/stat").read_text()
    fields = stat.rpartition(")")[2].split()
    ticks = int(fields[11]) + int(fields[12])
    return ticks / os.sysconf("SC_CLK_TCK")


def megabytes(pid: int) -> float:
    """Return the resident memory of a process."""
    status = Path(f"/proc/{pid}/status").read_text()
    (kilobytes,) = re.findall(r"^VmRSS:\s+(\d+) kB$", status, re.MULTILINE)
    return int(kilobytes) / 1024


def measure(seconds: float, log: Path) -> tuple[float, float]:
    """Return the memory in MB and the share of a core of an idle worker."""
    with run_worker(log) as worker:
        while STARTED not in log.read_text():
            time.sleep(0.1)
        time.sleep(WARM_SECONDS)
        before = cpu_seconds(worker.pid)
        time.sleep(seconds)
        share = (cpu_seconds(worker.pid) - before) / seconds
        return megabytes(worker.pid), share

"""Measures an idle worker. `rendering.py` copies this file into the service."""

import time
from pathlib import Path

from driver_figures import cpu_seconds, megabytes
from driver_servers import run_worker

WARM_SECONDS = 8.0
STARTED = "worker started"
"""What the worker writes into its log."""


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

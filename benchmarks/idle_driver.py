"""Measures idle workers. `idle.py` runs this in the service that it renders."""

import os
import re
import secrets
import sys
import tempfile
import time
from pathlib import Path

from driver_servers import run_servers, run_worker

from core.dev.servers import MONGODB, VALKEY

SECONDS = 60.0
WARM_SECONDS = 8.0


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
        time.sleep(WARM_SECONDS)
        before = cpu_seconds(worker.pid)
        time.sleep(seconds)
        share = (cpu_seconds(worker.pid) - before) / seconds
        return megabytes(worker.pid), share


def main() -> None:
    seconds = float(sys.argv[1]) if len(sys.argv) > 1 else SECONDS
    os.environ["SECRET_KEY"] = secrets.token_hex(32)
    os.environ["LOG_FORMAT"] = "json"
    with tempfile.TemporaryDirectory() as folder, run_servers(Path(folder), MONGODB, VALKEY):
        log = Path(folder) / "worker.log"
        measure(1.0, log)  # compiles the modules, as the build of the image does
        memory, share = measure(seconds, log)
    print(f"{memory:.0f} MB, {share:.2%} of a core (goal: 100 MB, 0.5 %)")


if __name__ == "__main__":
    main()

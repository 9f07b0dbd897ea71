"""Measures idle workers. `idle.py` runs this in the service that it renders."""

import os
import re
import secrets
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from driver_servers import run_servers, stop

from core.dev.servers import MONGODB, VALKEY

SECONDS = 60.0
WARM_SECONDS = 8.0
COMMANDS = {
    "groundwork": ["-m", "core", "worker"],
    "streaq": ["bare_app.py", "work"],
}


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


@contextmanager
def run_workers() -> Iterator[dict[str, int]]:
    """Run an idle worker of each system. Yields their process ids."""
    workers = {name: subprocess.Popen([sys.executable, *COMMANDS[name]]) for name in COMMANDS}
    try:
        yield {name: worker.pid for name, worker in workers.items()}
    finally:
        for worker in workers.values():
            stop(worker)


def measure(seconds: float) -> dict[str, tuple[float, float]]:
    """Return the memory in MB and the share of a core of each system's worker."""
    with run_workers() as pids:
        time.sleep(WARM_SECONDS)
        before = {name: cpu_seconds(pid) for name, pid in pids.items()}
        time.sleep(seconds)
        return {
            name: (megabytes(pid), (cpu_seconds(pid) - before[name]) / seconds)
            for name, pid in pids.items()
        }


def main() -> None:
    seconds = float(sys.argv[1]) if len(sys.argv) > 1 else SECONDS
    with tempfile.TemporaryDirectory() as folder:
        os.environ["SECRET_KEY"] = secrets.token_hex(32)
        os.environ["HITS"] = f"{folder}/hits"
        os.environ["LOG_FORMAT"] = "json"
        with run_servers(Path(folder), MONGODB, VALKEY):
            figures = measure(seconds)
    for name, (memory, share) in figures.items():
        print(f"{name:<11} {memory:4.0f} MB, {share:.2%} of a core")
    memory, share = figures["groundwork"]
    bare_memory, bare_share = figures["streaq"]
    memory_ratio = memory / bare_memory
    share_ratio = share / bare_share
    print(
        f"{memory_ratio:.1f}x the memory and {share_ratio:.1f}x the time of bare streaq"
        " (goal: 100 MB, 1 %)"
    )


if __name__ == "__main__":
    main()

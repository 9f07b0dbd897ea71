"""Measures queue systems. `overhead.py` runs this in the service that it renders."""

import os
import secrets
import sys
import tempfile
from pathlib import Path
from statistics import median

from driver_servers import run_servers
from driver_systems import (
    KILL_SECONDS,
    KILLED_JOBS,
    SYSTEMS,
    Setup,
    count_lost,
    measure_throughput,
)

from core.dev.servers import MONGODB

JOBS = 20_000
RUNS = 3


def measure(setups: list[Setup], jobs: int, runs: int, folder: Path) -> None:
    """Measure the systems by turns, and print the figures.

    Args:
        setups: The systems and how they run.
        jobs: The number of jobs in each run.
        runs: The number of runs of each system.
        folder: The folder for the data of all runs.
    """
    rates: dict[Setup, list[float]] = {setup: [] for setup in setups}
    for number in range(runs):
        for setup in setups:
            rate = measure_throughput(setup, jobs, folder)
            rates[setup].append(rate)
            print(f"run {number + 1}: {setup.label} {rate:.0f}/s", flush=True)
    print(f"\n{jobs} jobs, {runs} runs; ratios to the fastest other system with equal options")
    print(
        f"lost: of {KILLED_JOBS} jobs, with a SIGKILL every {KILL_SECONDS:.0f} s, without options"
    )
    for setup in setups:
        rate = median(rates[setup])
        peers = [median(rates[each]) for each in setups if each.is_peer_of(setup)]
        ratio = f"{rate / max(peers):5.2f}x" if peers else ""
        losses = ""
        if not setup.options:
            lost, run_twice = count_lost(setup, folder)
            losses = f"  lost {lost:4}  run twice {run_twice:4}"
        print(f"{setup.label:<18} {rate:7.0f}/s {ratio}{losses}", flush=True)


def main() -> None:
    jobs = int(sys.argv[1]) if len(sys.argv) > 1 else JOBS
    runs = int(sys.argv[2]) if len(sys.argv) > 2 else RUNS
    with_results = [f"{name}+results" for name in SYSTEMS if name != "groundwork"]
    labels = sys.argv[3:] or [*SYSTEMS, *with_results]
    os.environ["SECRET_KEY"] = secrets.token_hex(32)
    with tempfile.TemporaryDirectory() as folder, run_servers(Path(folder), MONGODB):
        measure([Setup(label) for label in labels], jobs, runs, Path(folder))


if __name__ == "__main__":
    main()

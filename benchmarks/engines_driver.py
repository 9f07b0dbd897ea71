"""Measure one engine. `engines.py` runs this file in the service that it renders."""

import os
import secrets
import sys
import tempfile
from dataclasses import replace
from pathlib import Path
from statistics import median

import driver_idle
from driver_servers import run_servers
from driver_systems import CELERY, SYSTEMS, Setup, count_lost, measure_throughput

from core.dev.servers import MONGODB

IDLE_SECONDS = 60.0

POOL = {"prefork": "threads", "{children}": "{concurrency}"}
SYSTEMS["celery-threads"] = replace(CELERY, work=[POOL.get(each, each) for each in CELERY.work])

OURS = {
    "redis": "groundwork+aof",
    "celery": "groundwork",
    "celery-rabbitmq": "groundwork+rabbitmq",
    "streaq": "groundwork",
    "arq": "groundwork",
}
"""The setup of the service for each engine. The engine `redis` needs a server that keeps data."""
BARE = {
    "celery": ["celery-threads", "celery"],
    "celery-rabbitmq": ["celery-threads+rabbitmq", "celery+rabbitmq"],
    "streaq": ["streaq"],
    "arq": ["arq"],
}


def measure_rates(setups: list[Setup], jobs: int, runs: int, folder: Path) -> list[float]:
    """Return the median of the jobs a second of each setup. The setups run in turn."""
    rates: dict[Setup, list[float]] = {setup: [] for setup in setups}
    for number in range(runs):
        for setup in setups:
            rate = measure_throughput(setup, jobs, folder)
            rates[setup].append(rate)
            print(f"run {number + 1}: {setup.label} {rate:.0f}/s", flush=True)
    return [median(rates[setup]) for setup in setups]


def measure_idle(setup: Setup, folder: Path) -> tuple[float, float]:
    """Return the memory in MB of an idle worker, and its CPU time in seconds a minute."""
    os.environ |= {"LOG_FORMAT": "json", "HITS": str(folder / "hits")}
    log = folder / "idle.log"
    with setup.run_server(folder):
        driver_idle.measure(1.0, log)  # compiles the modules, as the build of the image does
        memory, share = driver_idle.measure(IDLE_SECONDS, log)
    return memory, share * 60


def main() -> None:
    jobs, runs, engine = int(sys.argv[1]), int(sys.argv[2]), sys.argv[3]
    os.environ["SECRET_KEY"] = secrets.token_hex(32)
    bare = BARE.get(engine, [])
    setups = [Setup(label) for label in (OURS[engine], *bare)]
    with tempfile.TemporaryDirectory() as name, run_servers(Path(name), MONGODB):
        folder = Path(name)
        rate, *others = measure_rates(setups, jobs, runs, folder)
        lost, doubled = count_lost(setups[0], folder, has_restart=True)
        print(f"lost {lost}, doubled {doubled}", flush=True)
        memory, seconds = measure_idle(setups[0], folder)
    print(f"{engine}: {rate:.0f} jobs/s, {jobs} jobs, {runs} runs")
    for label, other in zip(bare, others, strict=True):
        print(f"  {label}: bare {other:.0f} jobs/s, ratio {rate / other:.2f}x")
    print(f"  memory {memory:.0f} MB, CPU {seconds:.2f} s a minute")
    sys.exit(lost > 0)


if __name__ == "__main__":
    main()

"""Start commands and imports in turn, on real servers, and print the median of each."""

import os
import secrets
import subprocess
import sys
import tempfile
from pathlib import Path
from statistics import median
from time import perf_counter

from driver_servers import run_servers

from core.dev.servers import MONGODB, VALKEY

COMMANDS = {
    "import beanie": ("-c", "import beanie"),
    "dead-letters list": ("-m", "core", "dead-letters", "list"),
    "jobs list": ("-m", "core", "jobs", "list"),
    "schedules list, with app/": ("-m", "core", "schedules", "list"),
    "--help": ("-m", "core", "--help"),
    "a wrong option": ("-m", "core", "jobs", "list", "--wrong"),
}
MODULES = {
    "the settings": "core.config",
    "the documents, on Beanie": "beanie, core.config, core.logging, core.models",
    "redis-py and the tasks": "core.models, core.tasks, redis.asyncio",
    "typer and all of it": "typer, core.models, core.tasks, core.tasks.engines.redis.engine",
}
"""The modules that a command imports, more with each line."""
RUNS = 9


def measure(arguments: tuple[str, ...]) -> tuple[float, float]:
    """Run Python, and return the seconds until its end, and its CPU time in seconds."""
    before, started = os.times(), perf_counter()
    subprocess.run([sys.executable, *arguments], capture_output=True, check=False)
    seconds, after = perf_counter() - started, os.times()
    used = after.children_user + after.children_system
    return seconds, used - before.children_user - before.children_system


def main() -> None:
    runs = int(sys.argv[1]) if sys.argv[1:] else RUNS
    imports = {name: ("-c", f"import {modules}") for name, modules in MODULES.items()}
    commands = {**COMMANDS, **imports}
    times: dict[str, list[tuple[float, float]]] = {name: [] for name in commands}
    os.environ["SECRET_KEY"] = secrets.token_hex(32)
    with tempfile.TemporaryDirectory() as folder, run_servers(Path(folder), MONGODB, VALKEY):
        for number in range(runs + 1):
            for name, arguments in commands.items():
                figures = measure(arguments)
                if number:  # the first round compiles the modules and makes the indexes
                    times[name].append(figures)
    medians = {
        name: [median(each) for each in zip(*pairs, strict=True)] for name, pairs in times.items()
    }
    first, first_used = medians["import beanie"]
    for name, (seconds, used) in medians.items():
        cpu = f"CPU {used:5.2f} s {used / first_used:5.2f}x"
        print(f"{name:28}{seconds:6.2f} s {seconds / first:5.2f}x   {cpu}")
    print("goal of a command: 1.5x")


if __name__ == "__main__":
    main()

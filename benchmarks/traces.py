"""The cost of traces, off and on. Goal: nothing while they are off.

If a commit is given, such as one before traces, it is measured by turns with the current code.

    script/uv run python benchmarks/traces.py [COMMIT [RUNS]]
"""

import json
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from statistics import median

from rendering import HERE, ROOT, UV, clean_environment, copy_service

RUNS = 5
FIGURES = ("import_ms", "modules", "memory_mb", "job_us", "request_us", "jobs", "requests")
TASKS = '''
"""Jobs that do nothing."""

from core.tasks.worker import worker


@worker.task
async def nothing(number: int) -> None: ...
'''


def render(folder: Path, commit: str) -> Path:
    """Render and install the service of a commit, with the driver and its task."""
    service = folder / "service"
    folder.mkdir()
    copy_service(ROOT, service, f"--vcs-ref={commit}")
    (service / "app" / "tasks" / "traces.py").write_text(TASKS)
    with (service / "app" / "tasks" / "worker.py").open("a") as worker:
        worker.write("from . import traces\n")
    for name in ("traces_driver.py", "driver_servers.py"):
        shutil.copy(HERE / name, service)
    subprocess.run([UV, "sync", "--quiet"], cwd=service, env=clean_environment(), check=True)
    return service


def measure(service: Path, how: str) -> dict[str, float]:
    command = [UV, "run", "--quiet", "python", "traces_driver.py", how]
    done = subprocess.run(
        command, cwd=service, env=clean_environment(), check=True, capture_output=True, text=True
    )
    figures: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return figures


def main() -> None:
    commit = sys.argv[1] if len(sys.argv) > 1 else None
    runs = int(sys.argv[2]) if len(sys.argv) > 2 else RUNS
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        now = render(folder / "now", "HEAD")
        variants = {"off": (now, "off"), "on": (now, "on")}
        if commit:
            variants = {"before": (render(folder / "before", commit), "off"), **variants}
        found: dict[str, list[dict[str, float]]] = {variant: [] for variant in variants}
        for number in range(runs):
            for variant, (service, how) in variants.items():
                found[variant].append(measure(service, how))
                print(f"run {number + 1}: {variant} {found[variant][-1]}", flush=True)
    print_table(found)


def print_table(found: dict[str, list[dict[str, float]]]) -> None:
    first = next(iter(found))
    print(f"\nmedians, and ratios to {first!r}; jobs and requests are per second of wall time")
    for figure in FIGURES:
        medians = {each: median(run[figure] for run in runs) for each, runs in found.items()}
        row = [f"{value:8.1f} {value / medians[first]:5.2f}x" for value in medians.values()]
        print(f"{figure:<12} {'  '.join(row)}")
    print(f"{'':<12} {'  '.join(f'{each:>15}' for each in found)}")


if __name__ == "__main__":
    main()

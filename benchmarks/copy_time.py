"""`copier copy --defaults` against `copier --version`, in turn, median of 5. To reach: at most 2x.

script/uv run python benchmarks/copy_time.py
"""

import subprocess
import sys
import tempfile
from pathlib import Path
from statistics import median
from time import perf_counter

ROOT = Path(__file__).resolve().parent.parent
COPIER = str(Path(sys.executable).parent / "copier")
RUNS = 5


def seconds(*command: str) -> float:
    started = perf_counter()
    subprocess.run(command, check=True, capture_output=True)
    return perf_counter() - started


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        clone = f"{folder}/groundwork"  # without the leftovers of this working tree, as a user has it
        subprocess.run(["git", "clone", "--quiet", str(ROOT), clone], check=True)
        copies, versions = [], []
        for number in range(RUNS + 1):  # the first one warms up
            versions.append(seconds(COPIER, "--version"))
            copies.append(seconds(COPIER, "copy", "--defaults", "--quiet", clone, f"{folder}/service-{number}"))
    copy, version = median(copies[1:]), median(versions[1:])
    print(f"copier copy {copy:.2f} s, copier --version {version:.2f} s, ratio {copy / version:.2f} (to reach: 2)")


if __name__ == "__main__":
    main()

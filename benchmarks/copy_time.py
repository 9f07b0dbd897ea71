"""`copier copy --defaults` against `copier --version`: the median of 5 runs. Goal: at most 2x.

The two commands take turns.

    script/uv run python benchmarks/copy_time.py
"""

import tempfile
from pathlib import Path
from statistics import median

from rendering import COPIER, clone_template, copy_service, measure

RUNS = 5


def main() -> None:
    copies = []
    versions = []
    with tempfile.TemporaryDirectory() as parent:
        folder = Path(parent)
        clone = clone_template(folder)
        for number in range(RUNS + 1):
            versions.append(measure(COPIER, "--version", cwd=folder))
            copies.append(copy_service(clone, folder / f"service-{number}"))
    copy = median(copies[1:])  # the first run warms up
    version = median(versions[1:])
    ratio = copy / version
    print(f"copier copy {copy:.2f} s, copier --version {version:.2f} s: {ratio:.2f}x (goal: 2x)")


if __name__ == "__main__":
    main()

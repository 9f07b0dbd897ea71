"""An hour of jobs, requests and kills. Prints what each process holds: memory, files, connections.

Goal: none of them grows. Each figure is the ratio of the end to the first tenth.

    script/uv run python benchmarks/soak.py [SECONDS]
"""

import sys

from rendering import run_driver

SECONDS = "3600"

TASKS = '''
"""Jobs that complete, and some that fail."""

from core.tasks.worker import worker


@worker.task(max_retries=0)
async def end(number: int) -> str:
    if number % 50 == 0:
        raise ValueError("every fiftieth job fails")
    return "x" * 100
'''


def main() -> None:
    sys.exit(run_driver("soak", TASKS, *(sys.argv[1:] or [SECONDS])))


if __name__ == "__main__":
    main()

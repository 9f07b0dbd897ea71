"""From the call of `enqueue` to the first line of the task, at 50 jobs a second.

Goal: 2 ms at p50, and 4 ms at p99. PINGs take turns with the jobs: cold ones, after 20 ms of
silence, and hot ones.

    script/uv run python benchmarks/latency.py [JOBS]
"""

import sys

from rendering import run_driver

TASKS = '''
"""A job that notes when it starts."""

from core.tasks.worker import worker
from hits import hit


@worker.task
async def note(number: int) -> None:
    hit(number)
'''

if __name__ == "__main__":
    sys.exit(run_driver("latency", TASKS, *sys.argv[1:]))

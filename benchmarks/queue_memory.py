"""Bytes in the queue's server for each job. Goal: 300 while it is pending, 170 when it has ended.

A key with an id of the same length and an empty value is measured in the same run. So are the
streams, before and after all jobs.

    script/uv run python benchmarks/queue_memory.py [JOBS]
"""

import sys

from rendering import run_driver

TASKS = '''
"""A job without arguments, and one with a short argument."""

from core.tasks.worker import worker


@worker.task
async def bare() -> None: ...


@worker.task
async def note(number: int) -> None: ...
'''

if __name__ == "__main__":
    sys.exit(run_driver("queue_memory", TASKS, *sys.argv[1:]))

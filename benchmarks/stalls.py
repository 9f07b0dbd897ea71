"""How long the queue's server keeps a client waiting. Goal: 50 ms at most.

100,000 scheduled jobs are due in one second. Then a worker holds 10,000 running jobs while it shows
signs of life and searches for the jobs of dead workers. Another client sends PINGs all the time,
also in a quiet phase. All three phases have the same length.

    script/uv run python benchmarks/stalls.py [DUE [CLAIMS]]
"""

import sys

from rendering import run_driver

TASKS = '''
"""A job that ends at once, and one that does not end."""

import asyncio

from core.tasks.worker import worker


@worker.task
async def note(number: int) -> None: ...


@worker.task(timeout=3600)
async def hold() -> None:
    await asyncio.sleep(3600)
'''

if __name__ == "__main__":
    sys.exit(run_driver("stalls", TASKS, *sys.argv[1:]))

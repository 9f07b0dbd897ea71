"""No-op jobs through this service, with everything on, against bare streaq and its peers. To reach: 0.9x bare streaq.

Everything on: arguments validated, messages signed, records and results, correlation ids, metrics, a log line a job.
The systems take turns, on one queue server without persistence, with one worker. Then each worker is killed every
two seconds, and what never ran is counted.

    script/uv run python benchmarks/overhead.py [JOBS [RUNS [SYSTEM ...]]]
"""

import sys

from rendering import run_driver

TASKS = '''
"""Jobs that are counted."""

import asyncio

from app.tasks.worker import worker
from hits import PAUSE, hit


@worker.task
async def job(number: int) -> None:
    if PAUSE:
        await asyncio.sleep(PAUSE)
    hit(number)
'''

if __name__ == "__main__":
    sys.exit(run_driver("overhead", TASKS, *sys.argv[1:]))

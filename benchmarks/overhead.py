"""No-op jobs through this service and through other queues. Goal: 3x the fastest of the others.

The service has every feature on: validated arguments, signed messages, records and results,
correlation ids, metrics, and a log line for each job. The systems take turns. Then the worker of
each system without options is killed every two seconds, and the jobs that never ran are counted.

Each system has one worker process, a queue server without persistence, and acknowledgements. The
others keep no results, unless `+results` follows the name. `+aof` switches on the append-only file
of the server, and `+2` runs two processes, which begin together: `groundwork+aof+2`. Without names,
all systems run, the others with and without results.

    script/uv run python benchmarks/overhead.py [JOBS [RUNS [SYSTEM ...]]]
"""

import sys

from rendering import run_driver

TASKS = '''
"""Jobs that are counted."""

import asyncio

from core.tasks.worker import worker
from hits import PAUSE, hit


@worker.task
async def job(number: int) -> None:
    if PAUSE:
        await asyncio.sleep(PAUSE)
    hit(number)
'''

if __name__ == "__main__":
    sys.exit(run_driver("overhead", TASKS, *sys.argv[1:]))

"""`enqueue` in a request against one round trip to the queue's server. Goal: 2.5x at p50.

The two take turns in one process on uvloop, as in the web process. Every feature is on.

    script/uv run python benchmarks/enqueue.py [CALLS]
"""

import sys

from rendering import run_driver

TASKS = '''
"""A task that no worker runs."""

from core.tasks.worker import worker


@worker.task
async def note(user_id: str, count: int) -> None: ...
'''

if __name__ == "__main__":
    sys.exit(run_driver("enqueue", TASKS, *sys.argv[1:]))

"""What `enqueue` adds to a request, against one round trip to the queue's server. To reach: p50 at most 1.5x.

Both by turns, in one process on uvloop, as the web process is, with everything on.

    script/uv run python benchmarks/enqueue.py [CALLS]
"""

import sys

from rendering import run_driver

TASKS = '''
"""A job that nobody runs."""

from app.tasks.worker import worker


@worker.task
async def note(user_id: str, count: int) -> None: ...
'''

if __name__ == "__main__":
    sys.exit(run_driver("enqueue", TASKS, *sys.argv[1:]))

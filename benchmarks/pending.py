"""CPU time of a job and of `stats()` with few and with many pending jobs. Goal: within 10 %.

Two servers without persistence have 1,000 and 1,000,000 pending jobs of one priority. They take
turns, seven times: a worker runs 2,000 jobs from the front, `stats()` is called, and the queue is
filled up again.

The server from the wheel has the allocator of libc, with which every script takes longer if the
server has used much memory, whatever the script does. A distribution's server has jemalloc. If PATH
has a server, it is used. To give jemalloc to the wheel's server, set LD_PRELOAD.

    script/uv run python benchmarks/pending.py [PENDING [JOBS]]
"""

import sys

from rendering import run_driver

TASKS = '''
"""A job that the driver counts."""

from core.tasks.worker import worker


def note_run() -> None: ...


@worker.task
async def note(number: int) -> None:
    note_run()
'''

if __name__ == "__main__":
    sys.exit(run_driver("pending", TASKS, *sys.argv[1:]))

"""Time of each page of the console with many jobs, and its cost for a worker.

The goals: with 100,000 dead letters and 1,000,000 pending jobs each page answers within 300 ms, and
the worker's CPU time per job stays within 5 % while the console is open. For the second figure, a
worker runs jobs with and without open consoles, by turns, seven times each. An open console
requests the overview as often as a browser does.

If JOBS is 0, only the pages are measured.

    script/uv run python benchmarks/console.py [PENDING [DEAD_LETTERS [JOBS]]]
"""

import sys

from rendering import run_driver

TASKS = '''
"""Jobs that do nothing."""

from core.tasks.worker import worker


@worker.task
async def nothing(number: int) -> None: ...
'''

if __name__ == "__main__":
    sys.exit(run_driver("console", TASKS, *sys.argv[1:]))

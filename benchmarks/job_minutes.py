"""The cost of statistics: time for a job, bytes in MongoDB, and time to read them.

The minutes are full: each task ran 20 times in each minute, with usual durations. MongoDB has the
documents of all days and hours of 14 days, and of the last two hours by minutes. Goal: 1,000 tasks
of two workers are added up in a second.

    script/uv run python benchmarks/job_minutes.py [TASKS [WORKERS]]
"""

import sys

from rendering import run_driver

TASKS = '"""No tasks."""\n'

if __name__ == "__main__":
    sys.exit(run_driver("job_minutes", TASKS, *sys.argv[1:]))

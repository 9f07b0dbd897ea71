"""Bytes in MongoDB for each kept run, indexes included, and the time to note a run.

The runs are written as a worker writes them, of ten tasks and a thousand users. The same runs are
then written with the fields and the indexes of 1.0.0, which kept no completed runs of other jobs.

    script/uv run python benchmarks/run_memory.py [RUNS]
"""

import sys

from rendering import run_driver

TASKS = '"""No tasks."""\n'

if __name__ == "__main__":
    sys.exit(run_driver("run_memory", TASKS, *sys.argv[1:]))

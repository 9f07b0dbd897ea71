"""Memory and CPU time of an idle worker, and of an idle streaq worker. Goal: 100 MB and 1 %.

script/uv run python benchmarks/idle.py [SECONDS]
"""

import sys

from rendering import run_driver

TASKS = '"""No tasks."""\n'

if __name__ == "__main__":
    sys.exit(run_driver("idle", TASKS, *sys.argv[1:]))

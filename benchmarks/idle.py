"""Memory and CPU time of an idle worker. Goal: 100 MB and 0.5 % of a core.

script/uv run python benchmarks/idle.py [SECONDS]
"""

import sys

from rendering import run_driver

TASKS = '"""No tasks."""\n'

if __name__ == "__main__":
    sys.exit(run_driver("idle", TASKS, *sys.argv[1:]))

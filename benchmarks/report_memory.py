"""The memory of a sales report on many orders, compared with one on few. Goal: at most 1.1x.

script/uv run python benchmarks/report_memory.py [ORDERS]
"""

import sys

from rendering import run_driver

TASKS = '"""No tasks."""\n'

if __name__ == "__main__":
    sys.exit(run_driver("report_memory", TASKS, *sys.argv[1:]))

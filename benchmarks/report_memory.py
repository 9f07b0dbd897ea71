"""The memory of a sales report on many orders beside that of one on few. To reach: flat, at most 1.1x.

script/uv run python benchmarks/report_memory.py [ORDERS]
"""

import sys

from rendering import run_driver

if __name__ == "__main__":
    sys.exit(run_driver("report_memory", '"""No jobs."""\n', *sys.argv[1:]))

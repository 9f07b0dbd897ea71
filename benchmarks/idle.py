"""What a worker costs that has nothing to do, beside one of bare streaq. To reach: 100 MB and 1 % of a core.

script/uv run python benchmarks/idle.py [SECONDS]
"""

import sys

from rendering import run_driver

if __name__ == "__main__":
    sys.exit(run_driver("idle", '"""No jobs."""\n', *sys.argv[1:]))

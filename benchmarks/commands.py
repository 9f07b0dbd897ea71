"""The time of a command against `python -c "import beanie"`, interleaved. Goal: 1.5x.

script/uv run python benchmarks/commands.py [RUNS]
"""

import sys

from rendering import run_driver

TASKS = '"""No tasks."""\n'

if __name__ == "__main__":
    sys.exit(run_driver("commands", TASKS, *sys.argv[1:]))

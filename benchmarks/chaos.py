"""Jobs while everything breaks: 0 lost, each effect once. Prints the time to recover.

A worker is killed every 2 s, the queue's server is restarted once (with its append-only file), MongoDB is stopped for
10 s, and one job ends its worker each time it runs. The ratio is against the same jobs with nothing breaking.

    script/uv run python benchmarks/chaos.py [JOBS]
"""

import sys

from rendering import run_driver

JOBS = "10000"

TASKS = '''
"""Jobs whose effects can be counted."""

import os

from app.tasks.worker import worker
from beanie import Document


class Effect(Document):
    id: int
    runs: int = 0


@worker.task(max_retries=50, retry_delay=0.5, retry_max_delay=5)
async def effect(number: int) -> None:
    """Takes effect once, by its key; counts how often it ran."""
    await Effect.get_pymongo_collection().update_one({"_id": number}, {"$inc": {"runs": 1}}, upsert=True)


@worker.task
async def killer() -> None:
    os._exit(1)
'''


def main() -> None:
    jobs = sys.argv[1] if len(sys.argv) > 1 else JOBS
    sys.exit(run_driver("chaos", TASKS, jobs, documents="Effect"))


if __name__ == "__main__":
    main()

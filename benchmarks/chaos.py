"""Jobs while everything breaks. Goal: 0 lost, and each effect once. Prints the time to recover.

A worker is killed every 2 s. The queue's server is restarted once, with its append-only file.
MongoDB is down for 10 s. One job ends its worker each time it runs. The ratio compares the time
with a run of the same jobs in which nothing breaks.

    script/uv run python benchmarks/chaos.py [JOBS]
"""

import sys

from rendering import run_driver

JOBS = "10000"

TASKS = '''
"""Jobs whose effects can be counted."""

import os

from beanie import Document

from core.tasks.worker import worker


class Effect(Document):
    id: int
    runs: int = 0


@worker.task(max_retries=50, retry_delay=0.5, retry_max_delay=5)
async def effect(number: int) -> None:
    """Take effect once, and count the runs."""
    effects = Effect.get_pymongo_collection()
    await effects.update_one({"_id": number}, {"$inc": {"runs": 1}}, upsert=True)


@worker.task
async def killer() -> None:
    os._exit(1)
'''


def main() -> None:
    jobs = sys.argv[1] if len(sys.argv) > 1 else JOBS
    sys.exit(run_driver("chaos", TASKS, jobs, documents="Effect"))


if __name__ == "__main__":
    main()

"""Jobs under each fault. Goal: 0 lost, 0 stuck, 0 doubled with a key.

In each scenario, a caller enqueues jobs during the fault. After an error it tries again, as a
client does. The table shows:

    jobs      jobs that `enqueue` has acknowledged
    refused   jobs that the caller could not enqueue within five minutes
    lost      jobs without an effect and without a dead letter
    stuck     jobs that have not ended
    failed    jobs that became dead letters although their function did not fail
    doubled   effects that happened twice: of tasks without an `idempotency_key`, and with one
    recovery  seconds from the end of the fault until all jobs enqueued by then have ended

    script/uv run python benchmarks/chaos.py [--jobs N] [--list] [SCENARIO ...]

Without the name of a scenario, all of them run. The status is 1 if a goal is missed.
"""

import sys

from rendering import run_driver

TASKS = '''
"""Jobs whose effects can be counted."""

import asyncio
import os
import time

from beanie import Document

from core.tasks import current_job
from core.tasks.worker import worker

SECONDS = 0.5
"""How long a job takes, so that many are running when something breaks."""
RETRIES = {"max_retries": 50, "retry_delay": 0.5, "retry_max_delay": 5}


class Effect(Document):
    """What one job, or one number, has done.

    A task without a key counts its runs. A task with a key writes one document for each job, so
    only a second job for the same number is an effect that happened twice.
    """

    id: str
    number: int
    runs: int = 1


@worker.task(**RETRIES)
async def count(number: int) -> None:
    await asyncio.sleep(SECONDS)
    effects = Effect.get_pymongo_collection()
    change = {"$inc": {"runs": 1}, "$set": {"number": number}}
    await effects.update_one({"_id": f"number:{number}"}, change, upsert=True)


@worker.task(idempotency_key=lambda number: number, **RETRIES)
async def count_once(number: int) -> None:
    await asyncio.sleep(SECONDS)
    effects = Effect.get_pymongo_collection()
    change = {"$set": {"number": number, "runs": 1}}
    await effects.update_one({"_id": current_job().id}, change, upsert=True)


@worker.task(max_retries=0, timeout=15)
async def nap() -> None:
    """Fail if the worker is frozen: when it continues, the job's timeout is over."""
    await asyncio.sleep(8)


@worker.task
async def end_process() -> None:
    os._exit(1)


@worker.task(max_retries=0)
async def fail() -> None:
    raise ValueError("this job fails")


@worker.task
async def block(seconds: float) -> None:
    time.sleep(seconds)
'''


def main() -> None:
    sys.exit(run_driver("chaos", TASKS, *sys.argv[1:], documents="Effect"))


if __name__ == "__main__":
    main()

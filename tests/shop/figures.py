"""Fills the service of the screenshots with two weeks of figures. It runs in the service."""

import asyncio
import math
import random
import sys
from datetime import UTC, datetime, timedelta
from typing import Any

from app.main import service
from core.config import get_settings
from core.entry import open_service
from core.models import AlertModel, AuditModel, DeadLetterModel, MinuteModel

MINUTE = timedelta(minutes=1)
DAY_MINUTES = 24 * 60
TASKS = {"send_invoice": 90, "charge_card": 60, "import_products": 9, "sync_stock": 1}
"""Runs of each task in a minute of the busiest hour."""

FAST, SLOW = ("d2", "d3", "d4"), ("d5", "d6")
"""Buckets of durations."""


def count_runs(at: datetime, busiest: float) -> int:
    """Return a number of runs. It is low at night and high in the afternoon."""
    hour = at.hour + at.minute / 60
    share = 0.12 + 0.88 * max(0.0, math.sin((hour - 5) / 18 * math.pi)) ** 2
    return max(0, round(random.gauss(share, 0.06) * busiest))


def make_row(task: str, at: datetime, busiest: float, minutes: int) -> dict[str, Any]:
    completed = sum(count_runs(at, busiest) for _ in range(minutes))
    row = {"task": task, "completed": completed, "w1": completed // 2, "w2": completed // 3}
    slow = round(completed * random.uniform(0.03, 0.2))
    row |= {name: (completed - slow) // len(FAST) for name in FAST}
    row |= {name: slow // len(SLOW) for name in SLOW}
    if task == "charge_card":
        row |= {"failed": round(completed * random.random() / 8), "retried": round(completed / 12)}
    return row


def make_figures(at: datetime, minutes: int) -> dict[str, Any]:
    rows = [make_row(task, at, busiest, minutes) for task, busiest in TASKS.items()]
    expires_at = at + timedelta(days=14)
    return {
        "start": at,
        "minutes": minutes,
        "worker": "seed",
        "tasks": rows,
        "expires_at": expires_at,
    }


async def fill(folder: str) -> None:
    now = datetime.now(UTC).replace(second=0, microsecond=0)
    minutes = [make_figures(now - number * MINUTE, 1) for number in range(1, DAY_MINUTES)]
    hour = now.replace(minute=0)
    hours = [make_figures(hour - number * 60 * MINUTE, 60) for number in range(1, 14 * 24)]
    await MinuteModel.get_pymongo_collection().insert_many([*minutes, *hours])
    letters = await DeadLetterModel.find().to_list()
    for letter in letters:
        # No picture shows a folder of this machine.
        letter.traceback = letter.traceback.replace(folder, "/srv/parcels")
        letter.died_at = now - 9 * 60 * MINUTE * random.random() ** 2
        letter.enqueued_at = letter.died_at - MINUTE
        await letter.save()
    while not await AlertModel.find().count():
        await asyncio.sleep(0.2)
    alerts = AlertModel.get_pymongo_collection()
    await alerts.update_many({}, {"$set": {"started_at": now - 37 * MINUTE}})
    entries = AuditModel.get_pymongo_collection()
    await entries.update_many({}, [{"$set": {"at": {"$subtract": ["$at", 7_200_000]}}}])


async def main() -> None:
    random.seed(18)
    async with open_service(service, get_settings()):
        await fill(sys.argv[1])


if __name__ == "__main__":
    asyncio.run(main())

"""Measures sales reports. `report_memory.py` runs this in the service that it renders."""

import asyncio
import os
import secrets
import subprocess
import sys
import tempfile
from datetime import UTC, datetime, timedelta
from pathlib import Path
from resource import RUSAGE_SELF, getrusage
from time import perf_counter

from driver_servers import run_servers

from app.main import service
from app.models.order import Order
from app.tasks.reports import generate_sales_report
from core.config import get_settings
from core.dev.servers import MONGODB
from core.entry import open_service

FEW = 1_000
MANY = 100_000
BATCH = 10_000
DAYS = 60
START = datetime(2027, 1, 1, tzinfo=UTC)


def make_order(number: int) -> Order:
    time = START + timedelta(days=number % DAYS)
    return Order(owner="1", product="Engine", quantity=1, price="1", created_at=time)


async def fill(count: int) -> None:
    """Store orders, the same number on each day."""
    async with open_service(service, get_settings()):
        for first in range(0, count, BATCH):
            numbers = range(first, min(first + BATCH, count))
            await Order.insert_many([make_order(number) for number in numbers])


async def report(count: int) -> None:
    """Make the report. Print the peak memory of this process in kB, and the seconds."""
    async with open_service(service, get_settings()):
        started = perf_counter()
        result = await generate_sales_report("2027-01-01", "2027-12-31")
        assert result["order_count"] == count
        print(getrusage(RUSAGE_SELF).ru_maxrss, perf_counter() - started)


STEPS = {"fill": fill, "report": report}


def run_step(step: str, count: int) -> str:
    """Run a step in a new process, and return its output."""
    command = [sys.executable, __file__, step, str(count)]
    return subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout


def measure(count: int) -> float:
    """Store orders, make a report on them, and return its peak memory in kB."""
    os.environ["MONGODB_DATABASE"] = f"orders-{count}"
    run_step("fill", count)
    peak, seconds = map(float, run_step("report", count).split())
    print(f"{count:>9,} orders: {peak / 1024:.0f} MB at most, {seconds:.1f} s")
    return peak


def main() -> None:
    many = int(sys.argv[1]) if len(sys.argv) > 1 else MANY
    with tempfile.TemporaryDirectory() as folder:
        os.environ["SECRET_KEY"] = secrets.token_hex(32)
        os.environ["TASK_ENGINE"] = "local"
        os.environ["BLOB_URL"] = f"{folder}/blobs"
        with run_servers(Path(folder), MONGODB):
            few_peak = measure(FEW)
            many_peak = measure(many)
    ratio = many_peak / few_peak
    print(f"{ratio:.2f}x the memory for {many / FEW:.0f}x the orders (goal: 1.1x)")


if __name__ == "__main__":
    if len(sys.argv) == 3:
        asyncio.run(STEPS[sys.argv[1]](int(sys.argv[2])))
    else:
        main()

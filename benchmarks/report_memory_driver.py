"""Run by `report_memory.py` inside the service that it renders."""

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

from app.main import service
from app.models.order import Order
from app.tasks.reports import generate_sales_report
from core.config import get_settings
from core.dev.servers import MONGODB, free_port, start_server
from core.entry import open_service

FEW, MANY = 1_000, 100_000
DAYS = 60
START = datetime(2027, 1, 1, tzinfo=UTC)
BATCH = 10_000


async def fill(count: int) -> None:
    """Store orders, as many on each day."""
    async with open_service(service, get_settings()):
        for first in range(0, count, BATCH):
            times = [START + timedelta(days=number % DAYS) for number in range(first, min(first + BATCH, count))]
            await Order.insert_many(
                [Order(customer="Ada", product="Engine", quantity=1, price="1", created_at=time) for time in times]
            )


async def report(count: int) -> None:
    """Make the report, and tell how much memory this process took at most, in kB, and how long it took."""
    async with open_service(service, get_settings()):
        started = perf_counter()
        result = await generate_sales_report("2027-01-01", "2027-12-31")
        assert result["order_count"] == count
        print(getrusage(RUSAGE_SELF).ru_maxrss, perf_counter() - started)


STEPS = {"fill": fill, "report": report}


def main() -> None:
    many = int(sys.argv[1]) if len(sys.argv) > 1 else MANY
    with tempfile.TemporaryDirectory() as folder:
        os.environ |= {"SECRET_KEY": secrets.token_hex(32), "TASK_ENGINE": "local", "BLOB_URL": f"{folder}/blobs"}
        port = free_port()
        mongod = start_server(MONGODB, Path(folder) / MONGODB.name, port)
        os.environ[MONGODB.setting] = MONGODB.url(port)
        try:
            peaks = []
            for count in (FEW, many):
                os.environ["MONGODB_DATABASE"] = f"orders-{count}"
                _, made = (
                    subprocess.run([sys.executable, __file__, step, str(count)], check=True, stdout=subprocess.PIPE)
                    for step in STEPS
                )
                peak, seconds = map(float, made.stdout.split())
                peaks.append(peak)
                print(f"{count:>9,} orders: {peak / 1024:.0f} MB at most, {seconds:.1f} s")
            print(f"{peaks[1] / peaks[0]:.2f}x the memory for {many / FEW:.0f}x the orders (to reach: 1.1x)")
        finally:
            mongod.kill()
            mongod.wait()


if __name__ == "__main__":
    if len(sys.argv) == 3:
        asyncio.run(STEPS[sys.argv[1]](int(sys.argv[2])))
    else:
        main()

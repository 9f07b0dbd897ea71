"""Tasks of a shop. A test decides when they end, with files in the folder `SHOP_FOLDER`."""

import asyncio
import os
from pathlib import Path

from core.tasks import Sensitive, report_progress
from core.tasks.worker import worker

FOLDER = Path(os.environ["SHOP_FOLDER"])
POLL_SECONDS = 0.05


class CardDeclined(Exception):
    """The bank refused a card."""


def is_open(name: str) -> bool:
    """Return whether the test has made the file of this name."""
    return (FOLDER / name).exists()


async def wait_for(name: str) -> None:
    """Wait until the test makes the file of this name."""
    while not is_open(name):
        await asyncio.sleep(POLL_SECONDS)


@worker.task
async def send_invoice(order: int) -> str:
    """Complete at once."""
    return f"invoice {order}"


@worker.task(max_retries=0)
async def charge_card(order: int, card: Sensitive[str]) -> str:
    """Fail unless the test has made the file `cards`."""
    if not is_open("cards"):
        raise CardDeclined(f"the bank declined the card of order {order}")
    return "charged"


@worker.task(max_retries=0)
async def pack_parcel(order: int) -> None:
    """Fail."""
    raise ValueError(f"order {order} has no address")


@worker.task(max_retries=0)
async def weigh_parcel(order: int) -> None:
    """Fail."""
    raise ValueError(f"order {order} is too heavy")


@worker.task(max_retries=0)
async def print_label(order: int) -> None:
    """Fail."""
    raise ValueError(f"order {order} has no label")


@worker.task(max_retries=0)
async def fetch_rates(currency: str) -> float:
    """Fail with another type of error."""
    raise TimeoutError(f"rates.example.com did not answer for {currency}")


@worker.task(timeout=3600)
async def import_products(file: str, rows: int = 400) -> int:
    """Report progress, and run until the test makes the file of this name."""
    await report_progress(rows // 4, rows, "rows read")
    await wait_for(file)
    await report_progress(rows, rows, "rows read")
    return rows


@worker.task
async def read_orders(day: str) -> int:
    """Be the first stage of the chain `close_day`."""
    return 42


@worker.task(timeout=3600)
async def add_up(orders: int) -> int:
    """Run until the test makes the file `books`."""
    await wait_for("books")
    return orders


@worker.task
async def mail_summary(total: int) -> str:
    """Be the last stage of the chain `close_day`."""
    return f"{total} orders"


close_day = read_orders | add_up | mail_summary


@worker.every(hours=1)
@worker.task
async def sync_stock() -> str:
    """Complete at once, from a schedule."""
    return "in stock"


@worker.cron("30 2 * * *", timezone="Europe/Berlin")
@worker.task(max_retries=0)
async def send_newsletter() -> None:
    """Fail, from a schedule."""
    raise ConnectionRefusedError("mail.example.com refused the connection")

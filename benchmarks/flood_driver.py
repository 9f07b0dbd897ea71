"""Measures the wait for a mail. `flood.py` runs this in the service that it renders."""

import asyncio
import os
import secrets
import sys
import tempfile
import time
from contextlib import suppress
from pathlib import Path
from statistics import median

import uvloop
from driver_servers import run_servers, run_worker

from core.config import get_settings
from core.context import TaskContext
from core.dev.servers import HOST, MAIL, MAILDIR, MONGODB, VALKEY
from core.entry import open_service
from core.testing import eventually

MAILS = 100
SUBSCRIPTIONS = 20
EVENTS = 60
PAUSE_SECONDS = 0.2
POLL_SECONDS = 0.001


class Receiver:
    """Accepts connections and never answers."""

    def __init__(self) -> None:
        self.requests = 0

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.requests += 1
        with suppress(asyncio.CancelledError):  # at the end
            while await reader.read(65_536):
                pass
        writer.close()


async def measure(mails: int, maildir: Path) -> tuple[list[float], list[float]]:
    """Return the seconds that each mail took, in the quiet service and in the flood."""
    from app.main import service
    from app.models.webhook import Subscription
    from app.tasks.emails import send_welcome_email
    from app.tasks.webhooks import deliver_webhook
    from core.models import UserModel

    async def send_mails() -> list[float]:
        waits = []
        for _ in range(mails):
            before = set(os.listdir(maildir / "new"))
            sent = time.perf_counter()
            await send_welcome_email.enqueue(user_id)
            while True:
                await asyncio.sleep(POLL_SECONDS)
                if set(os.listdir(maildir / "new")) != before:
                    break
            waits.append(time.perf_counter() - sent)
            await asyncio.sleep(PAUSE_SECONDS)
        return waits

    receiver = Receiver()
    server = await asyncio.start_server(receiver.serve, HOST, 0)
    port = server.sockets[0].getsockname()[1]
    urls = [f"http://{HOST}:{port}/{number}" for number in range(SUBSCRIPTIONS)]
    async with open_service(service, get_settings()):
        user = UserModel(email="ada@example.com", display_name="Ada", password_hash="none")
        user_id = str((await user.insert()).id)
        first = await send_welcome_email.enqueue(user_id)
        await first.result(120)  # the worker has started
        quiet = await send_mails()
        for url in urls:
            await Subscription(owner=user_id, url=url, events=[], secret="whsec_AAAA").insert()
        with TaskContext.use(actor=user_id):
            for number in range(EVENTS):
                payload = {"id": f"event-{number}"}
                await deliver_webhook.enqueue_many([[url, payload] for url in urls])
        await eventually(lambda: receiver.requests)
        flood = await send_mails()
        stats = await service.worker.queue.engine.stats()
    print(
        f"after the flood: {stats.pending} jobs pending, {stats.running} running, "
        f"{stats.scheduled} waiting; the receiver had {receiver.requests} requests"
    )
    server.close()
    return quiet, flood


def describe(waits: list[float]) -> str:
    return f"median {median(waits) * 1000:.1f} ms, longest {max(waits) * 1000:.1f} ms"


def main() -> None:
    mails = int(sys.argv[1]) if len(sys.argv) > 1 else MAILS
    os.environ["SECRET_KEY"] = secrets.token_hex(32)
    os.environ["ENVIRONMENT"] = "development"  # a receiver on this machine is allowed
    os.environ["TASK_CONCURRENCY"] = "50"
    os.environ["LOG_FORMAT"] = "json"
    with (
        tempfile.TemporaryDirectory() as folder,
        run_servers(Path(folder), MONGODB, VALKEY, MAIL),
        run_worker(Path(folder) / "worker.log"),
    ):
        quiet, flood = uvloop.run(measure(mails, Path(folder) / MAIL.name / MAILDIR))
    print(f"quiet: {describe(quiet)}")
    print(f"flood: {describe(flood)}")
    print(f"ratio of the medians: {median(flood) / median(quiet):.2f}x (goal: at most 2x)")


if __name__ == "__main__":
    main()

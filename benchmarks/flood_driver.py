"""Measures the wait for a mail. `flood.py` runs this in the service that it renders."""

import argparse
import asyncio
import io
import json
import os
import secrets
import tempfile
import time
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager, suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from statistics import median

import uvloop
from driver_servers import run_servers, run_worker
from PIL import Image

from core.config import get_settings
from core.context import TaskContext
from core.dev.servers import HOST, MAIL, MAILDIR, MONGODB, VALKEY
from core.entry import open_service
from core.testing import eventually

MAILS = 100
SUBSCRIPTIONS = 20
EVENTS = 60
UPLOADS = 70
UPLOADERS = 7
SIDE = 4900
"""The side of an image of 24 million pixels, nearly the maximum."""
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


@asynccontextmanager
async def flood_of_events(user_id: str) -> AsyncIterator[None]:
    """Publish events to a receiver that never answers."""
    from app.models.webhook import Event, Subscription
    from app.tasks.webhooks import deliver_event

    receiver = Receiver()
    server = await asyncio.start_server(receiver.serve, HOST, 0)
    port = server.sockets[0].getsockname()[1]
    urls = [f"http://{HOST}:{port}/{number}" for number in range(SUBSCRIPTIONS)]
    for url in urls:
        await Subscription(owner=user_id, url=url, events=[], secret="whsec_AAAA").insert()
    tomorrow = datetime.now(UTC) + timedelta(days=1)
    with TaskContext.use(actor=user_id):
        for number in range(EVENTS):
            event_id = f"event-{number}"
            payload = json.dumps({"id": event_id})
            event = Event(id=event_id, owner=user_id, payload=payload, expires_at=tomorrow)
            await event.insert()
            await deliver_event.enqueue_many([[url, event_id] for url in urls])
    await eventually(lambda: receiver.requests)
    yield
    print(f"the receiver had {receiver.requests} requests")
    server.close()


@asynccontextmanager
async def flood_of_images(user_id: str) -> AsyncIterator[None]:
    """Upload large images on behalf of several users."""
    from app.models.image import ImageModel, ImageStatus
    from app.tasks.processing import process_upload
    from core.services.blob import blob_service

    file = io.BytesIO()
    Image.effect_noise((SIDE, SIDE), 80).convert("RGB").save(file, "WEBP", quality=60)
    for number in range(UPLOADS):
        owner = user_id if number % UPLOADERS == 0 else f"user-{number % UPLOADERS}"
        with TaskContext.use(actor=owner):
            blob = await blob_service.upload(file.getvalue(), "photo.webp")
            image = ImageModel(name="photo.webp", owner=owner, blob_id=str(blob.id))
            await image.insert()
            await process_upload.enqueue(str(image.id))
    completed = ImageModel.find(ImageModel.status == ImageStatus.COMPLETED)
    await eventually(completed.count, 120)
    yield
    print(f"{await completed.count()} of {UPLOADS} images were processed")


Flood = Callable[[str], AbstractAsyncContextManager[None]]
FLOODS: dict[str, Flood] = {"events": flood_of_events, "images": flood_of_images}


async def measure(
    make_flood: Flood,
    mails: int,
    maildir: Path,
) -> tuple[list[float], list[float]]:
    """Return the seconds that each mail took, in the quiet service and in the flood."""
    from app.main import service
    from app.tasks.emails import send_welcome_email
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

    async with open_service(service, get_settings()):
        user = UserModel(email="ada@example.com", display_name="Ada", password_hash="none")
        user_id = str((await user.insert()).id)
        first = await send_welcome_email.enqueue(user_id)
        await first.result(120)  # the worker has started
        quiet = await send_mails()
        async with make_flood(user_id):
            flood = await send_mails()
            stats = await service.worker.queue.engine.stats()
    print(
        f"after the mails: {stats.pending} jobs pending, {stats.running} running, "
        f"{stats.scheduled} waiting"
    )
    return quiet, flood


def describe(waits: list[float]) -> str:
    return f"median {median(waits) * 1000:.1f} ms, longest {max(waits) * 1000:.1f} ms"


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("flood", nargs="?", choices=FLOODS, default="events")
    parser.add_argument("mails", nargs="?", type=int, default=MAILS)
    options = parser.parse_args()
    os.environ["SECRET_KEY"] = secrets.token_hex(32)
    os.environ["ENVIRONMENT"] = "development"  # a receiver on this machine is allowed
    os.environ["TASK_CONCURRENCY"] = "50"
    os.environ["LOG_FORMAT"] = "json"
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        os.environ["BLOB_URL"] = str(folder / "blobs")
        log = folder / "worker.log"
        with run_servers(folder, MONGODB, VALKEY, MAIL), run_worker(log):
            maildir = folder / MAIL.name / MAILDIR
            quiet, flood = uvloop.run(measure(FLOODS[options.flood], options.mails, maildir))
    print(f"quiet: {describe(quiet)}")
    print(f"flood: {describe(flood)}")
    print(f"ratio of the medians: {median(flood) / median(quiet):.2f}x (goal: at most 2x)")


if __name__ == "__main__":
    main()

"""The faults. Each one breaks something while jobs run, and then puts it in order again."""

import asyncio
import secrets
import signal
import socket
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

from chaos_driver_load import wait_for_mongodb
from driver_machine import Machine

from app.tasks.chaos import block, end_process, fail, nap
from core.dev.servers import HOST, MONGODB, VALKEY
from core.models import DeadLetterModel
from core.tasks import JobStatus

KILLS = 10
KILL_SECONDS = 2.0
HANG_SECONDS = 4.0
SWALLOW_SECONDS = 8.0
ZOMBIE_SECONDS = 25.0
DOWN_SECONDS = 10.0
FULL_SECONDS = 10.0
KEY_SECONDS = 5.0
BLOCK_SECONDS = 60.0
NAPS = 40
NAP_STARTS = 3.0
READS = 100
DYING = 9_000
FAILING = 50_000
POLL_SECONDS = 0.5
LIMIT_SECONDS = 600.0

PRODUCTION = {
    "ENVIRONMENT": "production",
    "SMTP_URL": f"smtp://{HOST}:1",
    "MAIL_FROM": "chaos@example.com",
    "PUBLIC_URL": f"http://{HOST}",
    "BLOB_URL": ".dev/blobs",
    "TASK_STUCK_LIMIT": "10",
}


@dataclass(frozen=True)
class Scenario:
    """A fault with its settings.

    Attributes:
        break_things: Breaks things, and ends when they are in order again. If it enqueues jobs, it
            returns the number of these jobs that were lost.
        settings: Settings of the whole run.
    """

    break_things: Callable[[Machine], Awaitable[int | None]]
    settings: dict[str, str] = field(default_factory=dict)


async def nothing(machine: Machine) -> None:
    """Nothing breaks. This gives the time to compare with."""


async def kills(machine: Machine) -> None:
    """A worker is killed every 2 s, ten times. One job ends its worker each time it runs."""
    await end_process.enqueue()
    for _ in range(KILLS):
        await asyncio.sleep(KILL_SECONDS)
        machine.workers[0].kill()


async def restart(machine: Machine) -> None:
    """Valkey is restarted with its append-only file."""
    await asyncio.to_thread(machine.stop, VALKEY)
    await asyncio.to_thread(machine.start, VALKEY)


async def outage(machine: Machine) -> None:
    """MongoDB is down for 10 s."""
    await asyncio.to_thread(machine.stop, MONGODB)
    await asyncio.sleep(DOWN_SECONDS)
    await asyncio.to_thread(machine.start, MONGODB)


async def hang(machine: Machine) -> None:
    """Valkey hangs for 4 s while the caller waits for 100 reads."""
    job = await fail.enqueue()
    reads = [asyncio.create_task(job.status()) for _ in range(READS)]
    machine.signal(VALKEY, signal.SIGSTOP)
    await asyncio.sleep(HANG_SECONDS)
    machine.signal(VALKEY, signal.SIGCONT)
    await asyncio.gather(*reads, return_exceptions=True)


async def half_open(machine: Machine) -> None:
    """The caller's connections to Valkey swallow everything for 8 s."""
    machine.proxy.forwards.clear()
    await asyncio.sleep(SWALLOW_SECONDS)
    machine.proxy.forwards.set()


async def zombie(machine: Machine) -> int:
    """A worker is frozen for 25 s, and continues after others have taken its jobs."""
    naps = await nap.enqueue_many([[]] * NAPS)
    await asyncio.sleep(NAP_STARTS)
    worker = machine.workers[0]
    worker.send_signal(signal.SIGSTOP)
    await asyncio.sleep(ZOMBIE_SECONDS)
    worker.send_signal(signal.SIGCONT)
    records = [await each.wait(LIMIT_SECONDS) for each in naps]
    return sum(record.status is not JobStatus.COMPLETED for record in records)


async def full(machine: Machine) -> None:
    """Valkey has no memory left for 10 s."""
    port = machine.port(VALKEY)
    used = await asyncio.to_thread(_command, port, "INFO memory")
    (line,) = [line for line in used.splitlines() if line.startswith("used_memory:")]
    await asyncio.to_thread(_command, port, f"CONFIG SET maxmemory {line.split(':')[1]}")
    await asyncio.sleep(FULL_SECONDS)
    await asyncio.to_thread(_command, port, "CONFIG SET maxmemory 0")


async def rotation(machine: Machine) -> None:
    """SECRET_KEY changes in two rolling deploys: the new key is first accepted, then used."""
    old = machine.settings["SECRET_KEY"]
    new = secrets.token_hex(32)
    for key, previous in ((old, new), (new, old)):
        machine.worker_settings = {"SECRET_KEY": key, "SECRET_KEY_PREVIOUS": previous}
        for _ in machine.workers:
            await machine.replace_worker()
            await asyncio.sleep(KEY_SECONDS)


async def wrong_key(machine: Machine) -> None:
    """A worker runs with a wrong SECRET_KEY for 10 s."""
    machine.worker_settings = {"SECRET_KEY": secrets.token_hex(32)}
    await machine.replace_worker()
    await asyncio.sleep(2 * KEY_SECONDS)
    machine.worker_settings = {}
    machine.workers[-1].kill()


async def blocking(machine: Machine) -> None:
    """A job blocks the event loop of its worker for 60 s, in production."""
    job = await block.enqueue(BLOCK_SECONDS)
    await job.wait(LIMIT_SECONDS)


async def failing(machine: Machine) -> int:
    """50,000 jobs fail for good at the same time."""
    await fail.enqueue_many([[]] * FAILING)
    return await _count_missing(FAILING)


async def dying(machine: Machine) -> int:
    """9,000 jobs fail for good while MongoDB is down."""
    await asyncio.to_thread(machine.stop, MONGODB)
    await fail.enqueue_many([[]] * DYING)
    await asyncio.sleep(DOWN_SECONDS)
    await asyncio.to_thread(machine.start, MONGODB)
    return await _count_missing(DYING)


async def _count_missing(jobs: int) -> int:
    """Wait until MongoDB has a dead letter of each failed job, and return how many it lacks."""
    await wait_for_mongodb()
    deadline = time.monotonic() + LIMIT_SECONDS
    found = 0
    while found < jobs and time.monotonic() < deadline:
        await asyncio.sleep(POLL_SECONDS)
        found = await DeadLetterModel.find({"task": fail.name}).count()
    return jobs - found


def _command(port: int, text: str) -> str:
    """Send one inline command to Valkey, and return the start of its answer."""
    with socket.create_connection((HOST, port)) as connection:
        connection.sendall(f"{text}\r\n".encode())
        return connection.recv(65536).decode()


SCENARIOS = {
    "nothing": Scenario(nothing),
    "kills": Scenario(kills),
    "restart": Scenario(restart),
    "outage": Scenario(outage),
    "hang": Scenario(hang),
    "half_open": Scenario(half_open),
    "zombie": Scenario(zombie),
    "full": Scenario(full),
    "rotation": Scenario(rotation),
    "wrong_key": Scenario(wrong_key),
    "blocking": Scenario(blocking, PRODUCTION),
    "failing": Scenario(failing),
    "dying": Scenario(dying),
}

"""Runs a service for a long time. `soak.py` runs this in the service that it renders."""

import asyncio
import os
import sys
import tempfile
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import httpx2
from driver_machine import Machine

from app.main import service
from app.tasks.soak import end
from core.config import get_settings
from core.dev.servers import HOST, MONGODB, VALKEY, free_port
from core.entry import open_service

JOBS_A_SECOND = 20
KILL_SECONDS = 60.0
ROWS = 10
MAX_GROWTH = 1.5
SPARE = 20
"""Files, connections or megabytes that a process may gain in any case."""


@dataclass(frozen=True)
class Held:
    """The memory, files and connections of a process."""

    megabytes: int
    files: int
    connections: int

    @classmethod
    def by(cls, pid: int) -> "Held":
        status = Path(f"/proc/{pid}/status").read_text()
        (memory,) = [line for line in status.splitlines() if line.startswith("VmRSS:")]
        links = []
        for file in Path(f"/proc/{pid}/fd").iterdir():
            with suppress(FileNotFoundError):  # closed in the meantime
                links.append(os.readlink(file))
        connections = sum(link.startswith("socket:") for link in links)
        return cls(int(memory.split()[1]) // 1024, len(links), connections)

    def has_grown(self, first: "Held") -> bool:
        """Whether this is much more than the process held at first."""
        pairs = zip(vars(self).values(), vars(first).values(), strict=True)
        return any(now > before * MAX_GROWTH + SPARE for now, before in pairs)


async def run(seconds: float) -> bool:
    """Run the service, print a row each tenth, and return whether no process has grown."""
    settings = {"TASK_RECORD_TTL": "60", "TASK_HISTORY_TTL": "60"}
    with tempfile.TemporaryDirectory() as folder:
        machine = Machine(Path(folder), settings)
        port = free_port()
        try:
            machine.start_servers()
            get_settings.cache_clear()
            machine.start_web(port)
            machine.keep_workers()
            async with open_service(service, get_settings()):
                working = [
                    asyncio.create_task(enqueue()),
                    asyncio.create_task(request(port)),
                    asyncio.create_task(kill_workers(machine)),
                ]
                rows = [await measure(machine, seconds / ROWS) for _ in range(ROWS)]
                for task in working:
                    task.cancel()
        finally:
            machine.close()
    first, last = rows[0], rows[-1]
    grown = [name for name in first if last[name].has_grown(first[name])]
    for name in first:
        ratio = last[name].megabytes / max(first[name].megabytes, 1)
        print(f"{name}: memory at the end against the first tenth: ratio {ratio:.2f}")
    print(f"grown: {', '.join(grown) or 'none'}")
    return not grown


async def enqueue() -> None:
    number = 0
    while True:
        await end.enqueue(number)
        number += 1
        await asyncio.sleep(1 / JOBS_A_SECOND)


async def request(port: int) -> None:
    async with httpx2.AsyncClient(base_url=f"http://{HOST}:{port}") as client:
        while True:
            await asyncio.sleep(1 / JOBS_A_SECOND)
            for path in ("/health/ready", "/metrics"):
                try:
                    await client.get(path)
                except httpx2.TransportError:
                    continue


async def kill_workers(machine: Machine) -> None:
    """Kill the newest worker now and then. The oldest one lives for the whole run."""
    while True:
        await asyncio.sleep(KILL_SECONDS)
        machine.workers[-1].kill()
        await asyncio.sleep(1)
        machine.keep_workers()


async def measure(machine: Machine, seconds: float) -> dict[str, Held]:
    """Wait, then print and return what each process holds."""
    await asyncio.sleep(seconds)
    pids = {
        "web": machine.web.pid,
        "worker": machine.workers[0].pid,
        "caller": os.getpid(),
        "valkey": machine.pid(VALKEY),
        "mongod": machine.pid(MONGODB),
    }
    held = {name: Held.by(pid) for name, pid in pids.items()}
    cells = [
        f"{name} {each.megabytes} MB {each.files} files {each.connections} connections"
        for name, each in held.items()
    ]
    print(f"{time.strftime('%H:%M:%S')}  {'; '.join(cells)}", flush=True)
    return held


if __name__ == "__main__":
    sys.exit(not asyncio.run(run(float(sys.argv[1]))))

"""Run by `chaos.py` inside the service that it renders."""

import asyncio
import os
import secrets
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from pymongo.errors import PyMongoError

from app.main import service
from app.tasks.chaos import Effect, effect, killer
from core.config import get_settings
from core.dev.servers import MONGODB, VALKEY, Server, free_port, start_server
from core.entry import open_service

KILL_SECONDS = 2.0
RESTART_AT, MONGODB_DOWN_AT, MONGODB_SECONDS = 6.0, 12.0, 10.0
LIMIT_SECONDS = 1800.0
WORKERS = 2


class Machine:
    """The servers and workers of one run."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir()
        self._folder = folder
        self._ports = {MONGODB.name: free_port(), VALKEY.name: free_port()}
        self._servers: dict[str, subprocess.Popen[bytes]] = {}
        self.workers: list[subprocess.Popen[bytes]] = []
        self._log = (folder / "workers.log").open("wb")
        os.environ.update(
            SECRET_KEY=secrets.token_hex(32),
            MONGODB_URL=MONGODB.url(self._ports[MONGODB.name]),
            REDIS_URL=VALKEY.url(self._ports[VALKEY.name]),
            LOG_LEVEL="WARNING",
            TASK_GRACE_PERIOD="5",
        )

    def start(self, server: Server) -> None:
        self._servers[server.name] = start_server(server, self._folder / server.name, self._ports[server.name])

    def stop(self, server: Server) -> None:
        process = self._servers.pop(server.name)
        process.terminate()
        process.wait()

    def keep_workers(self) -> None:
        self.workers = [worker for worker in self.workers if worker.poll() is None]
        while len(self.workers) < WORKERS:
            command = [sys.executable, "-m", "core", "worker"]
            self.workers.append(subprocess.Popen(command, stdout=self._log, stderr=self._log))

    def close(self) -> None:
        for process in [*self.workers, *self._servers.values()]:
            process.kill()
            process.wait()


async def break_things(machine: Machine, started: float) -> None:
    """Until it is cancelled; the outages happen once."""
    restarted = stopped = False
    while True:
        machine.keep_workers()
        await asyncio.sleep(KILL_SECONDS)
        if machine.workers:
            machine.workers[0].kill()
        elapsed = time.monotonic() - started
        if elapsed > RESTART_AT and not restarted:
            restarted = True
            await asyncio.to_thread(machine.stop, VALKEY)
            await asyncio.to_thread(machine.start, VALKEY)
        if elapsed > MONGODB_DOWN_AT and not stopped:
            stopped = True
            await asyncio.to_thread(machine.stop, MONGODB)
            await asyncio.sleep(MONGODB_SECONDS)
            await asyncio.to_thread(machine.start, MONGODB)


async def keep_workers(machine: Machine) -> None:
    """Nothing breaks; a worker that ends all the same is replaced."""
    while True:
        machine.keep_workers()
        await asyncio.sleep(0.5)


async def run(folder: Path, jobs: int, with_chaos: bool) -> float:
    """Enqueue the jobs and wait for all effects.

    Returns:
        The seconds until the last one.
    """
    machine = Machine(folder)
    get_settings.cache_clear()
    try:
        machine.start(MONGODB)
        machine.start(VALKEY)
        async with open_service(service, get_settings()):
            started = time.monotonic()
            enqueued = await effect.enqueue_many([number] for number in range(jobs))
            poison = await killer.enqueue() if with_chaos else None
            breaking = asyncio.create_task(break_things(machine, started) if with_chaos else keep_workers(machine))
            done = 0
            while done < jobs and time.monotonic() - started < LIMIT_SECONDS:
                await asyncio.sleep(0.5)
                try:
                    done = await Effect.get_pymongo_collection().estimated_document_count()
                except PyMongoError:
                    done = 0  # it is down
            seconds = time.monotonic() - started
            breaking.cancel()
            await asyncio.wait([breaking])
            if with_chaos:
                keeping = asyncio.create_task(keep_workers(machine))
                assert poison
                await poison.wait(LIMIT_SECONDS)
                letters = await service.worker.dead_letters.list()
                recovered = time.monotonic() - started
                statuses = [await job.status() for job in enqueued]
                runs = [found.runs async for found in Effect.find_all()]
                keeping.cancel()
                print(f"{jobs} jobs: {jobs - done} lost, {done} effects, {sum(runs) - done} runs more than effects")
                print(f"all effects after {seconds:.0f} s, the job that ends its worker dead after {recovered:.0f} s")
                print(f"dead letters: {[(letter.task, letter.error) for letter in letters]}")
                print(f"jobs not completed: {sum(status != 'completed' for status in statuses)}")
                if done < jobs:
                    sys.exit(1)
            return seconds
    finally:
        machine.close()


def main() -> None:
    jobs = int(sys.argv[1])
    with tempfile.TemporaryDirectory() as folder:
        quiet = asyncio.run(run(Path(folder) / "quiet", jobs, with_chaos=False))
    with tempfile.TemporaryDirectory() as folder:
        chaos = asyncio.run(run(Path(folder) / "chaos", jobs, with_chaos=True))
    print(f"with nothing breaking {quiet:.0f} s: ratio {chaos / quiet:.1f}")


if __name__ == "__main__":
    main()

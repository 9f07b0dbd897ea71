"""Breaks everything while jobs run. `chaos.py` runs this in the service that it renders."""

import asyncio
import os
import secrets
import subprocess
import sys
import tempfile
import time
from collections.abc import Coroutine
from contextlib import asynccontextmanager
from pathlib import Path

from driver_servers import stop
from pymongo.errors import PyMongoError

from app.main import service
from app.tasks.chaos import Effect, effect, killer
from core.config import get_settings
from core.dev.servers import MONGODB, VALKEY, Server, free_port, start_server
from core.entry import open_service
from core.tasks import Job

WORKERS = 2
KILL_SECONDS = 2.0
VALKEY_RESTART_AT = 6.0
MONGODB_DOWN_AT = 12.0
MONGODB_DOWN_SECONDS = 10.0
LIMIT_SECONDS = 1800.0


class Machine:
    """The servers and the workers of one run.

    Args:
        folder: The folder for their data and logs.
    """

    def __init__(self, folder: Path) -> None:
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
        data = self._folder / server.name
        self._servers[server.name] = start_server(server, data, self._ports[server.name])

    def stop(self, server: Server) -> None:
        process = self._servers.pop(server.name)
        process.terminate()
        process.wait()

    def keep_workers(self) -> None:
        """Start a worker for each one that has ended."""
        self.workers = [worker for worker in self.workers if worker.poll() is None]
        while len(self.workers) < WORKERS:
            command = [sys.executable, "-m", "core", "worker"]
            self.workers.append(subprocess.Popen(command, stdout=self._log, stderr=self._log))

    def close(self) -> None:
        for process in [*self.workers, *self._servers.values()]:
            stop(process)


async def break_things(machine: Machine, started: float) -> None:
    """Kill workers until cancelled, and cause each outage once."""
    is_restarted = False
    was_down = False
    while True:
        machine.keep_workers()
        await asyncio.sleep(KILL_SECONDS)
        if machine.workers:
            machine.workers[0].kill()
        elapsed = time.monotonic() - started
        if elapsed > VALKEY_RESTART_AT and not is_restarted:
            is_restarted = True
            await asyncio.to_thread(machine.stop, VALKEY)
            await asyncio.to_thread(machine.start, VALKEY)
        if elapsed > MONGODB_DOWN_AT and not was_down:
            was_down = True
            await asyncio.to_thread(machine.stop, MONGODB)
            await asyncio.sleep(MONGODB_DOWN_SECONDS)
            await asyncio.to_thread(machine.start, MONGODB)


async def keep_workers(machine: Machine) -> None:
    """Replace workers that end, until cancelled."""
    while True:
        machine.keep_workers()
        await asyncio.sleep(0.5)


@asynccontextmanager
async def in_background(coroutine: Coroutine[None, None, None]):
    """Run a coroutine, and cancel it at the end of the block."""
    task = asyncio.create_task(coroutine)
    try:
        yield
    finally:
        task.cancel()
        await asyncio.wait([task])


async def wait_for_effects(jobs: int, started: float) -> int:
    """Wait until every job has taken effect, for at most `LIMIT_SECONDS`.

    Returns:
        The number of effects.
    """
    done = 0
    while done < jobs and time.monotonic() - started < LIMIT_SECONDS:
        await asyncio.sleep(0.5)
        try:
            done = await Effect.get_pymongo_collection().estimated_document_count()
        except PyMongoError:
            done = 0  # MongoDB is down
    return done


async def print_outcome(enqueued: list[Job[None]], done: int, seconds: float) -> None:
    """Print what became of the jobs.

    Args:
        enqueued: The jobs with an effect.
        done: The number of effects.
        seconds: How long all effects took.
    """
    jobs = len(enqueued)
    letters = await service.worker.dead_letters.list()
    dead = [(letter.task, letter.error) for letter in letters]
    statuses = [await job.status() for job in enqueued]
    not_completed = sum(status != "completed" for status in statuses)
    effects = await Effect.find_all().to_list()
    extra_runs = sum(each.runs for each in effects) - done
    print(f"{jobs} jobs: {jobs - done} lost, {done} effects, {extra_runs} more runs than effects")
    print(f"all effects after {seconds:.0f} s")
    print(f"dead letters: {dead}")
    print(f"jobs not completed: {not_completed}")


async def run_quietly(machine: Machine, jobs: int) -> float:
    """Run the jobs while nothing breaks, and return the seconds until the last effect."""
    started = time.monotonic()
    await effect.enqueue_many([number] for number in range(jobs))
    async with in_background(keep_workers(machine)):
        await wait_for_effects(jobs, started)
    return time.monotonic() - started


async def run_with_chaos(machine: Machine, jobs: int) -> float:
    """Run the jobs while everything breaks, and return the seconds until the last effect."""
    started = time.monotonic()
    enqueued = await effect.enqueue_many([number] for number in range(jobs))
    poison = await killer.enqueue()
    async with in_background(break_things(machine, started)):
        done = await wait_for_effects(jobs, started)
    seconds = time.monotonic() - started
    async with in_background(keep_workers(machine)):
        await poison.wait(LIMIT_SECONDS)
        recovered = time.monotonic() - started
        await print_outcome(enqueued, done, seconds)
    print(f"the job that ends its worker is dead after {recovered:.0f} s")
    if done < jobs:
        sys.exit(1)
    return seconds


async def run(jobs: int, with_chaos: bool) -> float:
    with tempfile.TemporaryDirectory() as folder:
        machine = Machine(Path(folder))
        get_settings.cache_clear()
        try:
            machine.start(MONGODB)
            machine.start(VALKEY)
            async with open_service(service, get_settings()):
                run_jobs = run_with_chaos if with_chaos else run_quietly
                return await run_jobs(machine, jobs)
        finally:
            machine.close()


def main() -> None:
    jobs = int(sys.argv[1])
    quiet = asyncio.run(run(jobs, with_chaos=False))
    chaos = asyncio.run(run(jobs, with_chaos=True))
    print(f"while nothing breaks {quiet:.0f} s: ratio {chaos / quiet:.1f}")


if __name__ == "__main__":
    main()

"""Measures stalls of the queue's server. `stalls.py` runs this in the service that it renders."""

import asyncio
import os
import secrets
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from hashlib import sha1
from pathlib import Path

from driver_servers import run_servers, run_worker
from redis import Redis

from app.main import service
from app.tasks.stalls import hold, note
from core.config import get_settings
from core.dev.servers import MONGODB, VALKEY
from core.entry import open_service
from core.tasks.engines.redis.client import _LUA, GROUP, _read_script

DUE = 100_000
CLAIMS = 10_000
PARTS = 10
"""Equal parts of the jobs are due at equal distances in the second."""
PUBLISHED_A_SECOND = 4000
"""`enqueue_many` is faster than this."""
LEAST_SECONDS = 12.0
"""The shortest phase. A worker shows two signs of life in it, and searches six times."""
PING_PAUSE = 0.001
LOOK_PAUSE = 0.1
SLOW_MICROSECONDS = 100
"""The server does not note commands that take less."""
NAMED = 3
"""The slowest commands that are printed."""
MOST_ENTRIES = 100_000

SCRIPTS = {
    sha1(_read_script(file.stem).encode(), usedforsecurity=False).hexdigest(): file.stem
    for file in _LUA.iterdir()
}


@dataclass(frozen=True)
class Phase:
    """A phase: its length, the longest PING of a client, and the slowest commands."""

    seconds: float
    longest: float
    slowest: str

    def describe(self, quiet: "Phase") -> str:
        """Return the figures, compared with the quiet phase."""
        ratio = f"ratio to the quiet phase {self.longest / quiet.longest:.1f}"
        longest = f"longest PING {self.longest * 1000:.1f} ms, {ratio}"
        return f"{self.seconds:.0f} s, {longest}, slowest commands: {self.slowest}"


def watch(redis: Redis, seconds: float, is_over: Callable[[], bool] = lambda: True) -> Phase:
    """Send PINGs until a phase is over.

    Args:
        redis: The client.
        seconds: The shortest length of the phase.
        is_over: Whether the phase may end.
    """
    redis.slowlog_reset()
    longest = 0.0
    started = looked = now = time.perf_counter()
    while now - looked < LOOK_PAUSE or now - started < seconds or not is_over():
        if now - looked >= LOOK_PAUSE:
            looked = now
        time.sleep(PING_PAUSE)
        sent = time.perf_counter()
        redis.ping()
        now = time.perf_counter()
        longest = max(longest, now - sent)
    return Phase(now - started, longest, find_slowest(redis))


def find_slowest(redis: Redis) -> str:
    """Return the slowest commands of other clients, each with its longest time."""
    longest: dict[str, int] = {}
    for entry in redis.slowlog_get(MOST_ENTRIES):
        words = entry["command"].decode(errors="replace").split()
        name = SCRIPTS.get(words[1], words[0]) if len(words) > 1 else words[0]
        if name != "SLOWLOG":
            longest[name] = max(longest.get(name, 0), entry["duration"])
    slowest = sorted(longest, key=longest.__getitem__, reverse=True)[:NAMED]
    return ", ".join(f"{name} {longest[name] / 1000:.1f} ms" for name in slowest) or "none"


async def schedule(jobs: int) -> datetime:
    """Enqueue jobs that are due in one second, and return when this second begins."""
    due = datetime.now(UTC) + timedelta(seconds=jobs / PUBLISHED_A_SECOND + 2)
    async with open_service(service, get_settings()):
        for part in range(PARTS):
            bound = note.using(run_at=due + timedelta(seconds=part / PARTS))
            calls = [((number,), {}) for number in range(jobs // PARTS)]
            await note.submit_many(bound.call, calls)
    return due


async def hold_all(jobs: int) -> None:
    async with open_service(service, get_settings()):
        await hold.enqueue_many([[]] * jobs)


def measure(redis: Redis, log: Path, due_jobs: int, claims: int) -> None:
    """Print the figures of the three phases."""
    redis.config_set("slowlog-log-slower-than", SLOW_MICROSECONDS)
    redis.config_set("slowlog-max-len", MOST_ENTRIES)
    queue = f"{{{get_settings().queue_name}}}"
    stream, scheduled = f"{queue}:stream:normal", f"{queue}:scheduled:normal"

    def count_running() -> int:
        return int(redis.xpending(stream, GROUP)["pending"])

    with run_worker(log):
        begin = asyncio.run(schedule(due_jobs))
        time.sleep((begin - datetime.now(UTC)).total_seconds())
        due = watch(redis, LEAST_SECONDS, lambda: not redis.zcard(scheduled) + redis.xlen(stream))
        quiet = watch(redis, due.seconds)
    with run_worker(log, "--concurrency", str(claims)):
        asyncio.run(hold_all(claims))
        while count_running() < claims:
            time.sleep(LOOK_PAUSE)
        held = watch(redis, due.seconds)
        if count_running() < claims:
            raise SystemExit("the worker gave jobs up")
    print(f"quiet: {quiet.describe(quiet)}")
    print(f"{due_jobs:,} jobs due in one second: {due.describe(quiet)}")
    print(f"{claims:,} live claims: {held.describe(quiet)}")


def main() -> None:
    due = int(sys.argv[1]) if len(sys.argv) > 1 else DUE
    claims = int(sys.argv[2]) if len(sys.argv) > 2 else CLAIMS
    os.environ["SECRET_KEY"] = secrets.token_hex(32)
    os.environ["LOG_FORMAT"] = "json"
    with (
        tempfile.TemporaryDirectory() as folder,
        run_servers(Path(folder), MONGODB, VALKEY),
        Redis.from_url(os.environ["REDIS_URL"]) as redis,
    ):
        measure(redis, Path(folder) / "worker.log", due, claims)


if __name__ == "__main__":
    main()

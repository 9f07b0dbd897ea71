"""The end of a process in which the service's own threads are idle or busy."""

from pathlib import Path

import pytest

POOL = """
import threading
from core import threads
from core.entry import Service
from core.tasks import Worker

pool = threads.ThreadPool(1, thread_name_prefix="job")
service = Service([], [], Worker())
"""

IDLE = """
threads.END_SECONDS = 3600
pool.submit(int).result()
"""

BUSY = """
threads.END_SECONDS = 0.05
started = threading.Event()

def work() -> None:
    started.set()
    threading.Event().wait()

pool.submit(work)
pool.submit(work)  # no thread begins this call, so the process drops it
started.wait()
"""

ABANDONED = """
import asyncio
from contextlib import suppress

threads.END_SECONDS = 0.05
started = threading.Event()

def work() -> None:
    started.set()
    threading.Event().wait()

async def abandon() -> None:
    call = asyncio.create_task(threads.run_in_thread(work, None))
    await asyncio.to_thread(started.wait)
    call.cancel()
    with suppress(asyncio.CancelledError):
        await call

asyncio.run(abandon())
"""

SETTINGS = {"SERVICE": "pools:service", "TASK_ENGINE": "local"}


def test_a_process_does_not_wait_for_idle_threads(run, root: Path):
    """A wait would last longer than the timeout of `run`."""
    (root / "pools.py").write_text(POOL + IDLE)
    done = run("worker", **SETTINGS)
    assert done.returncode == 0
    assert done.stderr == ""


@pytest.mark.parametrize("busy", [BUSY, ABANDONED], ids=["pool", "plain task"])
def test_a_process_leaves_busy_threads_behind_with_a_warning(run, root: Path, busy: str):
    (root / "pools.py").write_text(POOL + busy)
    done = run("worker", LOG_FORMAT="json", **SETTINGS)
    assert done.returncode == 0
    assert '"event":"calls in threads were interrupted"' in done.stderr
    assert '"count":1,' in done.stderr

"""A broken schedule outside production ends each process at once, with one line that names it."""

from pathlib import Path

import pytest

from core.tasks.engines import DEFAULT

SERVICE = """
from core.entry import Service
from core.tasks import Worker

worker = Worker()

@worker.cron("0 9 * *")
async def report() -> None: ...

@worker.every(hours=1)
async def deliver(parcel: str) -> None: ...

service = Service([], [], worker)
"""
LINE = (
    "error: broken schedules: report (task report): a crontab has five fields (minute hour day "
    "month weekday), not '0 9 * *'; deliver (task deliver): missing a required argument: 'parcel'; "
    "the option `args` gives the arguments of its jobs\n"
)


@pytest.mark.parametrize("command", [["web"], ["worker"], ["schedules", "list"]])
def test_the_process_ends_with_one_line(run, root: Path, command):
    if command == ["worker"] and DEFAULT == "local":
        pytest.skip("the job queue is off")
    (root / "parcels.py").write_text(SERVICE)
    done = run(*command, SERVICE="parcels:service")
    assert done.returncode == 2
    assert done.stderr == LINE

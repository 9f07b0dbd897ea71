"""Jobs while something breaks: none is lost, none is stuck, and none with a key runs twice.

`script/soak` runs every scenario, with more jobs.
"""

import subprocess
import sys

import pytest
from conftest import ROOT

CHAOS = ROOT / "benchmarks" / "chaos.py"


@pytest.mark.parametrize("scenarios", [("hang", "half_open"), ("zombie", "full")])
def test_no_job_is_lost_stuck_or_doubled(scenarios: tuple[str, ...]) -> None:
    command = [sys.executable, str(CHAOS), "--jobs", "200", *scenarios]
    done = subprocess.run(command, capture_output=True, text=True, timeout=1200)
    assert done.returncode == 0, done.stdout + done.stderr
    _, *rows = done.stdout.splitlines()
    assert [row.split()[0] for row in rows] == list(scenarios)

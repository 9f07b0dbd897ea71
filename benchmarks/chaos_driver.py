"""Breaks things while jobs run. `chaos.py` runs this in the service that it renders."""

import argparse
import asyncio
import sys
import tempfile
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from dataclasses import astuple
from pathlib import Path

from chaos_driver_faults import SCENARIOS, Scenario
from chaos_driver_load import Load, Outcome, wait_for_mongodb
from driver_machine import Machine

from app.main import service
from core.config import get_settings
from core.entry import open_service

JOBS = 2000
SECONDS = 20.0
"""How long the caller takes to enqueue the jobs."""
WARM_SECONDS = 2.0
LIMIT_SECONDS = 300.0
HEADINGS = ("jobs", "refused", "lost", "stuck", "failed", "doubled", "with key", "recovery")


async def run(scenario: Scenario, jobs: int) -> Outcome:
    """Run one scenario on new servers."""
    with tempfile.TemporaryDirectory() as folder:
        machine = Machine(Path(folder), scenario.settings)
        try:
            machine.start_servers()
            get_settings.cache_clear()
            async with open_service(service, get_settings()), keeping_workers(machine):
                return await _run(scenario, machine, Load(jobs, SECONDS))
        finally:
            machine.close()


async def _run(scenario: Scenario, machine: Machine, load: Load) -> Outcome:
    calling = asyncio.create_task(load.enqueue())
    await asyncio.sleep(WARM_SECONDS)
    lost = await scenario.break_things(machine) or 0
    recovery = await load.recover(LIMIT_SECONDS)
    await asyncio.wait([calling], timeout=LIMIT_SECONDS)
    calling.cancel()
    await load.recover(LIMIT_SECONDS)
    await wait_for_mongodb()
    return await load.count(recovery, lost)


@asynccontextmanager
async def keeping_workers(machine: Machine) -> AsyncIterator[None]:
    """Run workers during a block, and replace each worker that ends."""

    async def keep() -> None:
        while True:
            machine.keep_workers()
            await asyncio.sleep(0.5)

    task = asyncio.create_task(keep())
    try:
        yield
    finally:
        task.cancel()
        await asyncio.wait([task])


def print_row(name: str, cells: Iterable[object]) -> None:
    print(f"{name:10}{''.join(f'{cell:>10}' for cell in cells)}", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("scenarios", nargs="*", choices=[*SCENARIOS, []], metavar="SCENARIO")
    parser.add_argument("--jobs", type=int, default=JOBS)
    parser.add_argument("--list", action="store_true")
    chosen = parser.parse_args()
    if chosen.list:
        for name, scenario in SCENARIOS.items():
            print(f"{name:10} {scenario.break_things.__doc__}")
        return
    print_row("", HEADINGS)
    is_good = True
    for name in chosen.scenarios or SCENARIOS:
        outcome = asyncio.run(run(SCENARIOS[name], chosen.jobs))
        *numbers, recovery = astuple(outcome)
        print_row(name, [*numbers, f"{recovery:.1f} s"])
        is_good = is_good and outcome.is_good
    sys.exit(not is_good)


if __name__ == "__main__":
    main()

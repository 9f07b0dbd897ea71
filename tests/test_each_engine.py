"""A small suite for the engines without a full suite, and changes of the engine in use."""

import re
from pathlib import Path

import pytest
from conftest import UV, commit_all, copy, git, install, run
from reference import write_service
from test_promises import (
    FOREVER,
    execute,
    in_background,
    read_notes,
    take_note,
    wait_until,
    write_notes,
)

OF_BROKERS = ("abort_and_progress", "delivery", "server_restarts", "stopping")
"""The parts of the contract in which brokers differ."""
OF_STORE = ("chains", "dead_letters", "limits_of_tasks", "retries", "suspects")
"""Parts of the contract that depend on the jobs in MongoDB. The three engines share this code."""
WORKERS = {"celery": "test_celery", "streaq": "test_hosted_workers", "arq": "test_hosted_workers"}
"""The tests of each system's own worker."""
PASTED = ("backends", "app_tasks")
"""The modules that are pasted from the reference documents about Celery, arq and streaq."""
TOUR = ("redis", "celery", "streaq", "arq", "redis")


@pytest.mark.parametrize("engine", WORKERS)
def test_a_small_suite(template: Path, tmp_path: Path, engine: str) -> None:
    service = install(copy(template, tmp_path / "service", task_engine=engine))
    for recipe in ("lint", "typecheck"):
        run(UV, "run", "just", recipe, cwd=service)

    parts = OF_BROKERS + OF_STORE if engine == "celery" else OF_BROKERS
    contract = [f"core/tests/contract/test_{name}.py" for name in parts]
    chosen = [*contract, f"core/tests/servers/{WORKERS[engine]}.py"]
    options = ["-q", "-n2", "-k", "not local and not 250"]
    assert " passed" in run(UV, "run", "just", "test-core", *options, *chosen, cwd=service).stdout

    write_service(service, "local", engine)
    assert (service / "app" / "pasted" / f"backend_{engine}.py").exists() is (engine != "streaq")
    pasted = [f"tests/test_pasted_{name}.py" for name in PASTED]
    assert " passed" in run(UV, "run", "just", "test", *pasted, cwd=service).stdout


def test_a_service_in_use_changes_its_engine(
    template: Path, tmp_path: Path, shell: dict[str, str]
) -> None:
    """Drained jobs have run. Others wait in Redis or MongoDB for an engine that uses it."""
    service = copy(template, tmp_path / "service")
    write_notes(service)
    commit_all(service, "mine")
    app = git(service, "rev-parse", "HEAD:app")
    expected: list[str] = []
    for number, engine in enumerate(TOUR):
        if number:
            answer = f"--data task_engine={engine}"
            execute(f"uv run just update --to current --defaults {answer}", service, shell)
            commit_all(service, engine)
        with in_background(FOREVER, service, shell, tmp_path / "dev.log") as base:
            if number == 0:
                execute("uv run just schedules disable send_daily_digest", service, shell)
                take_note(base, "broken")
            if engine in ("streaq", "arq"):
                expected.append(f"left-by-{TOUR[number - 1]}")
            if number == len(TOUR) - 1:
                expected.append("left-by-redis")
            take_note(base, f"{number}-at-once")
            take_note(base, f"{number}-later", delay=2)
            expected += [f"{number}-at-once", f"{number}-later"]
            drained = execute("uv run just drain", service, shell)
            assert drained.endswith("0 pending, 0 running, 0 scheduled\n")
            assert read_notes(service) == sorted(expected)
            if "broken" not in expected:
                wait_until(lambda: len(find_letters(service, shell)) == 1)
            schedules = execute("uv run just schedules", service, shell)
            assert re.search(r"^send_daily_digest +disabled ", schedules, re.MULTILINE)
            take_note(base, f"left-by-{engine}", delay=10)
            if engine == "arq":
                (service / ".dev" / "mended").touch()
                letter = find_letters(service, shell)[0].split()[0]
                execute(f"uv run just dead-letters replay {letter}", service, shell)
                wait_until(lambda: "broken" in read_notes(service))
                expected.append("broken")

    assert "left-by-arq" not in expected  # it waits in MongoDB
    assert git(service, "rev-parse", "HEAD:app") == app


def find_letters(service: Path, shell: dict[str, str]) -> list[str]:
    """Return the lines of the dead letters of notes."""
    printed = execute("uv run just dead-letters list", service, shell)
    return [line for line in printed.splitlines() if "take_note" in line]

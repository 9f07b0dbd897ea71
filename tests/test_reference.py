"""The snippets of the reference documents run in a service unchanged."""

import os
import re
import signal
import subprocess
from pathlib import Path

from conftest import ROOT, UV, clean_environment, duplicate, run
from reference import (
    IMPORTS,
    NOT_HERE,
    PAGE,
    Place,
    describe_additions,
    pasted_places,
    read_blocks,
    write_service,
)

WORKER_DEV = Place("app-tasks.md", "Local Development")


def test_the_snippets_run_as_they_are(service: Path, tmp_path: Path) -> None:
    target = duplicate(service, tmp_path / "service")
    write_service(target, "local")
    tests = [str(path) for path in (target / "tests").glob("test_pasted_*.py")]
    done = run(UV, "run", "just", "test", *tests, cwd=target)
    assert " passed" in done.stdout
    print(describe_additions())


def test_a_command_runs_as_it_is(queue_service: Path, tmp_path: Path) -> None:
    target = duplicate(queue_service, tmp_path / "service")
    process = subprocess.Popen(
        [UV, "run", "bash", "-c", read_blocks()[WORKER_DEV].text],
        cwd=target,
        env={**clean_environment(), "LOG_FORMAT": "json"},
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    assert process.stderr
    try:
        assert any("worker started" in line for line in process.stderr)
    finally:
        os.killpg(process.pid, signal.SIGINT)
    process.communicate(timeout=60)


def test_every_block_is_pasted_or_has_a_reason() -> None:
    blocks = read_blocks()
    places = [*pasted_places(), *NOT_HERE, WORKER_DEV]
    assert sorted(places) == sorted(blocks)
    assert all(blocks[place].language == "python" for place in pasted_places())


def test_each_reason_is_a_section_of_the_page() -> None:
    page = (ROOT / "template" / PAGE).read_text()
    sections = set(re.findall(r"^## (.+)$", page, re.MULTILINE))
    assert set(NOT_HERE.values()) <= sections


def test_each_replaced_import_is_in_a_document() -> None:
    blocks = read_blocks()
    pasted = "".join(blocks[place].text for place in pasted_places())
    assert set(IMPORTS) <= set(re.findall(r"^ *from (\S+) import ", pasted, re.MULTILINE))

"""Alerts and hooks in real processes: two web processes, no worker, and a hook that never ends."""

import os
import signal
import subprocess
import sys
from typing import Any

import pytest
from pymongo import MongoClient

from core.config import ROOT
from core.tasks.engines import DEFAULT
from core.testing import empty, eventually
from core.tests.running import WAIT
from core.tests.servers.web_process import web_process

pytestmark = pytest.mark.skipif(DEFAULT == "local", reason="there is no worker process")

SERVICE = """
import asyncio
from core.entry import Service
from core.tasks import JobFailure, PermanentError, Worker
from core.tasks.alerts import alerts, conditions

alerts.CHECK_SECONDS, alerts.END_SECONDS, conditions.MISSING_SECONDS = 0.3, 3, 1
worker = Worker()


@worker.task(max_retries=0)
async def fails() -> None:
    raise PermanentError("no")


@worker.on_failure
async def never_ends(failure: JobFailure) -> None:
    print("hook called", flush=True)
    while True:
        try:
            await asyncio.sleep(3600)
        except asyncio.CancelledError:
            pass


service = Service([], [], worker)
"""
ENQUEUE = """
import asyncio
from core.entry import open_service
from served import fails


async def main() -> None:
    async with open_service():
        await fails.enqueue()


asyncio.run(main())
"""
GRACE_SECONDS = 5
LATE_SECONDS = 15
"""The time in which a worker ends after its grace period, on a busy machine."""


@pytest.fixture
async def environment(settings, tmp_path, monkeypatch):
    """The environment of the processes. The database has one administrator."""
    (tmp_path / "served.py").write_text(SERVICE)
    values = {
        "SERVICE": "served:service",
        "PYTHONPATH": f"{tmp_path}:{ROOT}",
        "TASK_ENGINE": DEFAULT,
        "ALERT_MAIL": "true",
    }
    for name, value in values.items():
        monkeypatch.setenv(name, value)
    admin = {"email": "ada@example.com", "display_name": "Ada", "is_admin": True}
    with MongoClient[dict[str, Any]](str(settings.mongodb_url)) as client:
        client[settings.mongodb_database]["users"].insert_one(admin)
    yield {**os.environ, **values}
    await empty(settings)


def start_worker(environment: dict[str, str]) -> "subprocess.Popen[str]":
    command = [sys.executable, "-m", "core", "worker"]
    return subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True)


async def test_two_web_processes_send_one_mail_that_no_worker_is_alive(
    environment, mailbox, tmp_path
):
    def subjects() -> list[str]:
        return [mail["Subject"].split("] ")[1] for mail in mailbox.messages]

    for name in ("one", "two"):
        (tmp_path / name).mkdir()
    async with (
        web_process(tmp_path / "one", SERVICE),
        web_process(tmp_path / "two", SERVICE),
    ):
        await eventually(subjects, WAIT)
        process = start_worker(environment)
        try:
            await eventually(lambda: len(subjects()) == 2, WAIT)
        finally:
            process.terminate()
            process.communicate(timeout=60)
    assert subjects() == ["No worker is alive", "Ended: No worker is alive"]


async def test_a_hook_that_never_ends_delays_no_worker(environment):
    process = start_worker(environment)
    try:
        subprocess.run([sys.executable, "-c", ENQUEUE], env=environment, check=True, timeout=60)
        assert process.stdout
        assert process.stdout.readline() == "hook called\n"
        process.send_signal(signal.SIGTERM)
        assert process.wait(GRACE_SECONDS + LATE_SECONDS) == 0
    finally:
        process.kill()
        process.communicate()

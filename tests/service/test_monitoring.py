"""Prometheus scrapes a real web process and worker, and finds what alerts and dashboard ask for."""

import asyncio
import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import httpx2
import pytest

from core.config import ROOT, Settings
from core.dev.servers import free_port  # noqa: TID251
from core.tasks.engines import DEFAULT  # noqa: TID251
from core.testing import empty, eventually  # noqa: TID251

WAIT = 60
METRICS_WAIT = 40
DEPLOY = ROOT / "core" / "deploy"
SERVICE = """
from core.entry import Service
from core.tasks import PermanentError, TransientError, Worker, current_job
from fastapi import APIRouter

worker = Worker()
router = APIRouter()


@worker.task(retry_delay=0.01)
async def ship() -> None:
    if current_job().attempt == 1:
        raise TransientError("later")


@worker.task
async def lose() -> None:
    raise PermanentError("never")


@router.post("/jobs-of-all-kinds")
async def enqueue() -> None:
    await ship.enqueue()
    await lose.enqueue()
    await ship.using(delay=3600).enqueue()


service = Service([], [router], worker)
"""
SELECTOR = re.compile(r"\b[a-z]+(?:_[a-z]+)+\b(?:\{[^}]*\})?")
"""A metric, with its labels. The names of all metrics have an underscore."""
NO_METRICS = {"histogram_quantile", "last_over_time", "ended_as"}
INTERVAL = "2s"


def panels() -> Iterator[tuple[str, str]]:
    """Return the expressions of all panels of the dashboard, with their titles."""
    dashboard = json.loads((DEPLOY / "grafana" / "dashboard.json").read_text())
    for panel in dashboard["panels"]:
        for target in panel["targets"]:
            text = target["expr"].replace("$__rate_interval", INTERVAL)
            yield panel["title"], text.replace("$namespace", ".*")


async def alerts(client: httpx2.AsyncClient) -> list[tuple[str, str]]:
    """Return the expressions of all alerts as Prometheus has read them, with their names."""
    groups = (await client.get("/api/v1/rules")).json()["data"]["groups"]
    rules = [rule for group in groups for rule in group["rules"]]
    assert {rule["type"] for rule in rules} == {"alerting"}
    return [(rule["name"], rule["query"]) for rule in rules]


@contextmanager
def running(folder: Path, name: str, *command: str, **variables: str) -> Iterator[None]:
    environment = {**os.environ, "PYTHONPATH": f"{folder}:{ROOT}", **variables}
    with (folder / f"{name}.log").open("w") as log:
        process = subprocess.Popen(command, cwd=folder, env=environment, stderr=log, stdout=log)
    try:
        yield
    finally:
        process.terminate()
        process.wait(WAIT)


@contextmanager
def prometheus(folder: Path, *ports: int) -> Iterator[httpx2.AsyncClient]:
    """Run a Prometheus that scrapes these ports, and yield a client of its API."""
    targets = [f"127.0.0.1:{port}" for port in ports]
    jobs = [{"job_name": "service", "static_configs": [{"targets": targets}]}]
    rules = [str(DEPLOY / "prometheus" / "alerts.yaml")]
    config = {
        "global": {"scrape_interval": "500ms", "scrape_timeout": "500ms"},
        "rule_files": rules,
        "scrape_configs": jobs,
    }
    (folder / "prometheus.yml").write_text(json.dumps(config))  # JSON is YAML
    port = free_port()
    with running(
        folder,
        "prometheus",
        f"{os.environ['PROMETHEUS']}/prometheus",
        "--config.file=prometheus.yml",
        f"--storage.tsdb.path={folder / 'data'}",
        f"--web.listen-address=127.0.0.1:{port}",
    ):
        yield httpx2.AsyncClient(base_url=f"http://127.0.0.1:{port}")


async def query(client: httpx2.AsyncClient, expression: str) -> list[Any]:
    answer = (await client.post("/api/v1/query", data={"query": expression})).json()
    assert answer["status"] == "success", (expression, answer)
    result: list[Any] = answer["data"]["result"]
    return result


@pytest.mark.skipif("PROMETHEUS" not in os.environ, reason="tests/test_rendered.py sets it")
async def test_alerts_and_dashboard_name_metrics_that_exist(settings: Settings, tmp_path: Path):
    (tmp_path / "watched.py").write_text(SERVICE)
    web, worker = free_port(), free_port()
    ports = [web] if DEFAULT == "local" else [web, worker]
    variables = {
        "SERVICE": "watched:service",
        "TASK_ENGINE": DEFAULT,
        "PORT": str(web),
        "WORKER_PORT": str(worker),
    }
    core = (sys.executable, "-m", "core")
    with (
        running(tmp_path, "web", *core, "web", **variables),
        running(tmp_path, "worker", *core, "worker", **variables),
        prometheus(tmp_path, *ports) as client,
    ):

        async def is_scraped() -> bool:
            try:
                answer = await client.get("/-/ready")
            except httpx2.TransportError:
                return False
            if answer.status_code != 200:
                return False
            return len(await query(client, "up == 1")) == len(ports)

        await eventually(is_scraped, WAIT)
        missing = {"nothing was looked for"}

        async def has_all() -> bool:
            async with httpx2.AsyncClient() as user:
                await user.post(f"http://127.0.0.1:{web}/jobs-of-all-kinds")
            await asyncio.sleep(1)
            found = await find_missing(client)
            missing.clear()
            missing.update(found)
            return not missing

        with suppress(TimeoutError):
            await eventually(has_all, METRICS_WAIT)
        assert missing == set()
    await empty(settings)


async def find_missing(client: httpx2.AsyncClient) -> set[str]:
    """Return the metrics of all expressions, and the panels, for which there is no value."""
    of_alerts = await alerts(client)
    assert len(of_alerts) == 9
    missing = set()
    for name, expression in [*of_alerts, *panels()]:
        for selector in set(SELECTOR.findall(expression)) - NO_METRICS:
            if not await query(client, selector):
                missing.add(f"{name}: {selector}")
    # An alert has no value while all is well.
    for title, expression in panels():
        if not await query(client, expression):
            missing.add(f"{title}: {expression}")
    return missing

"""Reports about the queue's server: its condition, and why it cannot be used."""

import asyncio
import ssl

import httpx2
import pytest
from pydantic_core import MultiHostUrl
from redis.asyncio import Redis

from core.config import Settings
from core.dev.servers import HOST
from core.entry import load_service
from core.tasks import QueueUnavailable
from core.tasks.engines import build_engine
from core.tasks.monitor import Monitor
from core.tests.queue_servers import queue_server, write_certificate
from core.web import create_app

NOTHING_KEPT = ["the queue's server loses all jobs when it restarts: set appendonly yes"]
NEARLY_FULL = ["the queue's server uses more than 80% of its maxmemory"]
NOT_KNOWN = ["the queue's server does not say whether it keeps jobs when it restarts"]


@pytest.fixture
async def redis(settings: Settings, tmp_path):
    """A client of a server of this test, which keeps nothing."""
    with queue_server(tmp_path, "--appendonly", "no") as (port, _):
        settings.task_engine = "redis"
        settings.redis_url = MultiHostUrl(f"redis://{HOST}:{port}/0")
        async with Redis(port=port) as redis:
            yield redis


async def test_risks_are_found_and_logged_once(redis, settings, caplog):
    engine = build_engine(settings)
    monitor = Monitor(engine, is_production=True)
    assert await monitor.check() == NOTHING_KEPT
    assert await monitor.check() == NOTHING_KEPT
    assert caplog.text.count("queue is at risk") == 1
    assert await Monitor(engine, is_production=False).check() == []

    await redis.config_set("save", "3600 1")
    assert await monitor.check() == []
    await redis.config_set("save", "")
    await redis.config_set("appendonly", "yes")
    assert await monitor.check() == []
    used = (await redis.info("memory"))["used_memory"]
    await redis.config_set("maxmemory", round(used * 1.1))
    assert await monitor.check() == NEARLY_FULL
    await redis.config_set("maxmemory", 0)
    await redis.acl_setuser("default", enabled=True, commands=["-config", "-info"])
    assert await monitor.check() == NOT_KNOWN
    await engine.stop()


async def test_a_queue_that_refuses_jobs_degrades_the_web_process(redis, settings):
    app = create_app(load_service(settings), settings)
    async with (
        app.router.lifespan_context(app),
        httpx2.AsyncClient(transport=httpx2.ASGITransport(app), base_url="http://test") as client,
    ):

        async def ready() -> tuple[int, str, str, list[str]]:
            response = await client.get("/health/ready")
            body = response.json()
            notes = body.get("notes", [])
            return response.status_code, body["status"], body["checks"]["queue"], notes

        assert await ready() == (200, "ok", "ok", [])
        await redis.config_set("maxmemory", 1)
        notes = ["the queue's server is full: free memory, or raise maxmemory"]
        assert await ready() == (200, "degraded", "refuses jobs", notes)
        await redis.config_set("maxmemory", 0)
        assert await ready() == (200, "ok", "ok", [])
        await redis.config_set("requirepass", "unknown")
        await redis.client_kill_filter(_type="normal", skipme=True)
        assert await ready() == (503, "unavailable", "down", [])


async def test_a_certificate_that_is_not_trusted_is_told(settings, tmp_path):
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(write_certificate(tmp_path))
    server = await asyncio.start_server(lambda *_: None, HOST, 0, ssl=context)
    port = server.sockets[0].getsockname()[1]
    settings.task_engine = "redis"
    settings.redis_url = MultiHostUrl(f"rediss://{HOST}:{port}/0")
    engine = build_engine(settings)
    with pytest.raises(QueueUnavailable, match="certificate verify failed: self-signed"):
        await engine.stats()
    await engine.stop()
    server.close()

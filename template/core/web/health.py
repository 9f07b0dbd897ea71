"""Health, for whoever restarts processes or routes requests to them."""

import asyncio
from collections.abc import Awaitable
from typing import Any

from fastapi import APIRouter, Request, Response
from fastapi.responses import JSONResponse
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest

from core.config import Settings
from core.database import Database
from core.logging import get_logger
from core.tasks import Worker, metrics

logger = get_logger(__name__)

CHECK_SECONDS = 2.0


def health_router(worker: Worker, settings: Settings) -> APIRouter:
    """`/health/live`, `/health/ready` and `/health/backlog`."""
    router = APIRouter(prefix="/health", tags=["health"])

    @router.get("/live")
    async def live() -> dict[str, str]:
        """The process answers; nothing else is looked at."""
        return {"status": "ok"}

    @router.get("/ready")
    async def ready(request: Request) -> JSONResponse:
        """Whether database and queue can be used now; 503, and which one is down, where not."""
        database: Database = request.app.state.database
        names = ("database", "queue")
        states = await asyncio.gather(_check(database.ping()), _check(worker.queue.engine.stats()))
        checks = dict(zip(names, states, strict=True))
        is_ready = all(state == "ok" for state in states)
        body = {"status": "ok" if is_ready else "unavailable", "checks": checks}
        return JSONResponse(body, 200 if is_ready else 503)

    @router.get("/backlog")
    async def backlog() -> JSONResponse:
        """Whether workers keep up; 503 where too many jobs are ready, or the oldest one has waited for too long."""
        stats = await worker.queue.engine.stats()
        keeps_up = (
            stats.pending < settings.task_backlog_limit
            and stats.oldest < settings.task_backlog_seconds
        )
        body = {
            "status": "ok" if keeps_up else "backlog",
            "pending": stats.pending,
            "oldest_seconds": stats.oldest,
        }
        if not keeps_up:
            logger.warning(
                "backlog: workers do not keep up",
                pending=stats.pending,
                oldest_seconds=stats.oldest,
            )
        return JSONResponse(body, 200 if keeps_up else 503)

    return router


def metrics_router(worker: Worker) -> APIRouter:
    """`/metrics`, for Prometheus: of this process, of the queue, and of the dead letters."""
    router = APIRouter(tags=["health"])

    @router.get("/metrics")
    async def show_metrics() -> Response:
        """Keep it from the public where the names of tasks are nobody's business."""
        stats = await worker.queue.engine.stats()
        metrics.QUEUE.labels("pending").set(stats.pending)
        metrics.QUEUE.labels("running").set(stats.running)
        metrics.QUEUE.labels("scheduled").set(stats.scheduled)
        metrics.OLDEST.set(stats.oldest)
        metrics.DEAD.set(await worker.dead_letters.count())
        return Response(generate_latest(), media_type=CONTENT_TYPE_LATEST)

    return router


async def _check(check: Awaitable[Any]) -> str:
    try:
        async with asyncio.timeout(CHECK_SECONDS):
            await check
    except Exception:  # whatever it is, this dependency cannot be used
        return "down"
    return "ok"

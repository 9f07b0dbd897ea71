"""Health checks and metrics, for process managers, load balancers and Prometheus."""

import asyncio
from collections.abc import Awaitable
from hmac import compare_digest
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Header, HTTPException, Request, Response
from fastapi.responses import JSONResponse
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest

from core.config import Settings
from core.database import Database
from core.logging import get_logger
from core.tasks import Worker, metrics
from core.tasks.backlog import judge_backlog
from core.tasks.errors import QueueRefuses
from core.tasks.monitor import Monitor

logger = get_logger(__name__)

CHECK_SECONDS = 2.0


def health_router(worker: Worker, settings: Settings) -> APIRouter:
    """Return the router with `/health/live`, `/health/ready` and `/health/backlog`.

    Args:
        worker: The service's worker.
        settings: The settings with the limits of the backlog.
    """
    router = APIRouter(prefix="/health", tags=["health"])

    @router.get("/live")
    async def live() -> dict[str, str]:
        """Report that the process answers. No server is checked."""
        return {"status": "ok"}

    @router.get("/ready")
    async def ready(request: Request) -> JSONResponse:
        """Check the database, the queue and the schedules.

        If the database or the queue is down, the status is 503. A broken schedule, or a queue that
        refuses new jobs, leaves it at 200, because most requests can still be served.
        """
        checks, notes = await check_servers(request.app.state.database, worker)
        checks["schedules"] = "broken" if worker.schedules.broken else "ok"
        body: dict[str, Any] = {"status": "ok", "checks": checks}
        if notes:
            body["notes"] = notes
        if "down" in checks.values():
            return JSONResponse({**body, "status": "unavailable"}, 503)
        if set(checks.values()) != {"ok"}:
            body["status"] = "degraded"
        return JSONResponse(body)

    @router.get("/backlog")
    async def backlog() -> JSONResponse:
        """Check that workers keep up with the queue. If they do not, the status is 503.

        The limits are `TASK_BACKLOG_LIMIT` and `TASK_BACKLOG_SECONDS`.
        """
        verdict = await judge_backlog(worker.queue.engine, settings)
        figures = {
            "pending": verdict.stats.pending,
            "oldest_seconds": verdict.stats.oldest,
        }
        if verdict.is_late:
            logger.warning("backlog: workers do not keep up", **figures)
        status = "backlog" if verdict.is_late else "ok"
        body = {"status": status, **figures, "verdict": verdict.text}
        return JSONResponse(body, 503 if verdict.is_late else 200)

    return router


def metrics_router(worker: Worker, settings: Settings) -> APIRouter:
    """Return the router with `/metrics`.

    Args:
        worker: The service's worker.
        settings: The settings with the token.
    """
    router = APIRouter(tags=["health"])

    async def check_token(authorization: Annotated[str, Header()] = "") -> None:
        token = settings.metrics_token
        if token:
            expected = f"Bearer {token.get_secret_value()}"
            if not compare_digest(authorization.encode(), expected.encode()):
                raise HTTPException(401, "Wrong token.", {"WWW-Authenticate": "Bearer"})
        elif settings.is_production:
            raise HTTPException(404, "Not found. METRICS_TOKEN opens this path.")

    @router.get("/metrics", dependencies=[Depends(check_token)], responses={401: {}})
    async def show_metrics() -> Response:
        """Return the metrics of this process, the queue and the dead letters, for Prometheus.

        They contain the names of tasks. With `METRICS_TOKEN`, a request needs that bearer token.
        """
        stats = await worker.queue.engine.stats()
        metrics.QUEUE.labels("pending").set(stats.pending)
        metrics.QUEUE.labels("running").set(stats.running)
        metrics.QUEUE.labels("scheduled").set(stats.scheduled)
        metrics.OLDEST.set(stats.oldest)
        metrics.DEAD.set(await worker.dead_letters.count())
        metrics.STASHED.set(await worker.dead_letters.count_stashed())
        return Response(generate_latest(), media_type=CONTENT_TYPE_LATEST)

    return router


async def check_servers(database: Database, worker: Worker) -> tuple[dict[str, str], list[str]]:
    """Return the states of the database and the queue, and notes for the operator."""
    state, (queue_state, notes) = await asyncio.gather(
        _check(database.ping()),
        _check_queue(worker.monitor),
    )
    return {"database": state, "queue": queue_state}, notes


async def _check(check: Awaitable[Any]) -> str:
    try:
        async with asyncio.timeout(CHECK_SECONDS):
            await check
    except Exception:  # a client library may raise any exception
        return "down"
    return "ok"


async def _check_queue(monitor: Monitor) -> tuple[str, list[str]]:
    """Return the state of the queue, and notes for the operator."""
    try:
        async with asyncio.timeout(CHECK_SECONDS):
            return "ok", await monitor.check()
    except QueueRefuses as error:
        return "refuses jobs", [f"the queue's server {error.reason}"]
    except Exception:  # as above
        return "down", []

"""Health, for whoever restarts processes or routes requests to them."""

import asyncio
from collections.abc import Awaitable
from typing import Any

from fastapi import APIRouter, Request
from fastapi.responses import JSONResponse

from core.database import Database
from core.tasks import Worker

CHECK_SECONDS = 2.0


def health_router(worker: Worker) -> APIRouter:
    """`/health/live` and `/health/ready`."""
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

    return router


async def _check(check: Awaitable[Any]) -> str:
    try:
        await asyncio.wait_for(check, CHECK_SECONDS)
    except Exception:  # whatever it is, this dependency cannot be used
        return "down"
    return "ok"

"""The FastAPI application."""

import re
import tomllib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from asgi_correlation_id import CorrelationIdMiddleware
from fastapi import Depends, FastAPI, Request

from core.config import ROOT, Settings
from core.entry import Service, open_service
from core.logging import get_logger
from core.web.access_log import AccessLogMiddleware
from core.web.audit import audit_router
from core.web.auth import current_user
from core.web.blobs import blobs_router
from core.web.errors import add_error_handlers
from core.web.health import health_router, metrics_router
from core.web.jobs import jobs_router

logger = get_logger(__name__)

_CORRELATION_ID = re.compile(r"[\w.:-]{1,128}", re.ASCII)


def create_app(service: Service, settings: Settings) -> FastAPI:
    """Build the application: core's routes, then the service's.

    Args:
        service: What `app.main` says of itself.
        settings: Of this process.
    """

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        async with open_service(service, settings) as database:
            app.state.database = database
            logger.info("web started", host=settings.host, port=settings.port)
            yield
        logger.info("web stopped")

    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    app = FastAPI(
        title=project["name"],
        description=project.get("description", ""),
        version=project["version"],
        lifespan=lifespan,
        max_body_size=settings.max_body_size,
    )
    add_error_handlers(app)
    app.include_router(health_router(service.worker, settings))
    user = service.current_user or current_user
    own = (
        metrics_router(service.worker),
        jobs_router(service.worker, user),
        audit_router(user),
        blobs_router,
    )
    for router in (*own, *service.routers):
        app.include_router(router, dependencies=[Depends(_require_database)])
    # The last one added is the outermost: the access log needs the correlation id.
    app.add_middleware(AccessLogMiddleware)
    app.add_middleware(
        CorrelationIdMiddleware,
        # A caller's own id is kept where it is harmless in logs and headers.
        validator=lambda value: _CORRELATION_ID.fullmatch(value) is not None,
    )
    return app


async def _require_database(request: Request) -> None:
    request.app.state.database.require()

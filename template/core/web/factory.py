"""The FastAPI application."""

import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from asgi_correlation_id import CorrelationIdMiddleware
from fastapi import Depends, FastAPI, Request

from core.config import Settings, read_pyproject
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
    """Create the application, with the routes of `core` and of the service.

    Args:
        service: The service, as `app.main` declares it.
        settings: The service's settings.
    """

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        async with (
            open_service(service, settings) as database,
            service.worker.fire_schedules(),
        ):
            app.state.database = database
            logger.info("web started", host=settings.host, port=settings.port)
            yield
        logger.info("web stopped")

    project = read_pyproject()["project"]
    app = FastAPI(
        title=settings.service_name,
        description=project.get("description", ""),
        version=project["version"],
        lifespan=lifespan,
        max_body_size=settings.max_body_size,
    )
    add_error_handlers(app)
    _add_routers(app, service, settings)
    # The last middleware is the outermost. The access log needs the correlation id.
    app.add_middleware(AccessLogMiddleware)
    app.add_middleware(
        CorrelationIdMiddleware,
        validator=_is_correlation_id,
    )
    return app


def _add_routers(app: FastAPI, service: Service, settings: Settings) -> None:
    app.include_router(health_router(service.worker, settings))
    user = service.current_user or current_user
    routers = [
        metrics_router(service.worker),
        jobs_router(service.worker, user),
        audit_router(user),
        blobs_router,
        *service.routers,
    ]
    needs_database = Depends(_require_database)
    for router in routers:
        app.include_router(router, dependencies=[needs_database])


def _is_correlation_id(value: str) -> bool:
    """Whether a client's correlation id is safe in logs and headers."""
    return _CORRELATION_ID.fullmatch(value) is not None


async def _require_database(request: Request) -> None:
    request.app.state.database.require()

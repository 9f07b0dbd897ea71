"""The FastAPI application."""

import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, nullcontext, suppress

from asgi_correlation_id import CorrelationIdMiddleware
from fastapi import Depends, FastAPI, Request
from fastapi.middleware import Middleware
from fastapi.routing import iter_route_contexts
from starlette.middleware.body_limit import RequestBodyLimitMiddleware
from starlette.middleware.errors import ServerErrorMiddleware

from core.config import Settings, read_pyproject
from core.entry import ExceptionHandler, Lifespan, Service, open_service
from core.logging import get_logger
from core.tasks import QueueUnavailable
from core.traces import is_on, stop_tracing
from core.web.access_log import AccessLogMiddleware
from core.web.api_docs import docs_router
from core.web.audit import audit_router
from core.web.auth import current_user
from core.web.blobs import blobs_router
from core.web.console_port import CONSOLE, ConsolePortMiddleware, is_console
from core.web.errors import answer_broken_middleware, make_error_handlers
from core.web.health import health_router, metrics_router
from core.web.jobs import jobs_router
from core.web.login import login_router
from core.web.mail_viewer import mail_router
from core.web.pages import files_router
from core.web.security import SecurityMiddleware
from core.web.start_page import start_router
from core.web.traces import TELEMETRY, TraceIdMiddleware

logger = get_logger(__name__)

_CORRELATION_ID = re.compile(r"[\w.:-]{1,128}", re.ASCII)


def create_app(service: Service, settings: Settings) -> FastAPI:
    """Create the application, with the routes of `core` and of the service.

    Args:
        service: The service, as `app.main` declares it.
        settings: The service's settings.
    """
    project = read_pyproject()["project"]
    handlers = make_error_handlers(service.exception_handlers)
    handler = handlers.pop(Exception)
    has_docs = settings.api_docs
    if has_docs is None:
        has_docs = not settings.is_production
    app = FastAPI(
        title=settings.service_name,
        description=project.get("description", ""),
        version=project["version"],
        docs_url=None,  # FastAPI's own pages load scripts from another host
        redoc_url=None,
        openapi_url=service.openapi_url if has_docs else None,
        lifespan=_make_lifespan(service, settings),
        middleware=_list_middleware(service, settings, handler),
        exception_handlers=handlers,
        telemetry=TELEMETRY,
    )
    app.add_exception_handler(Exception, answer_broken_middleware)
    if has_docs and service.openapi_url:
        app.include_router(docs_router(service))
        app.docs_url = service.docs_url  # the start prints it
    _add_routers(app, service, settings)
    return app


def _make_lifespan(service: Service, settings: Settings) -> Lifespan:
    own_lifespan = service.lifespan or nullcontext

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        async with (
            open_service(service, settings) as database,
            service.worker.watch(),
        ):
            with suppress(QueueUnavailable):
                await service.worker.monitor.check()  # logs what an operator should change
            app.state.database = database
            async with own_lifespan(app):
                yield
        stop_tracing()
        logger.info("web stopped")

    return lifespan


def _list_middleware(
    service: Service,
    settings: Settings,
    handler: ExceptionHandler,
) -> list[Middleware]:
    """Return all middleware, outermost first."""
    console_port = settings.console_port if settings.console_enabled else None
    return [
        # The access log needs the correlation id and the trace's id.
        Middleware(CorrelationIdMiddleware, validator=_is_correlation_id),
        *([Middleware(TraceIdMiddleware)] if is_on() else []),
        Middleware(AccessLogMiddleware),
        Middleware(SecurityMiddleware, settings, service.middleware),
        *([Middleware(ConsolePortMiddleware, console_port)] if console_port else []),
        *service.middleware,
        # Inside the service's own middleware, so CORS headers are added to answers 500 and 413 too.
        Middleware(ServerErrorMiddleware, handler=handler),
        Middleware(RequestBodyLimitMiddleware, max_body_size=settings.max_body_size),
    ]


def _add_routers(app: FastAPI, service: Service, settings: Settings) -> None:
    is_development = settings.environment == "development"
    app.include_router(files_router)
    app.include_router(health_router(service.worker, settings))
    if is_development:
        app.include_router(mail_router)
    user = service.current_user or current_user
    routers = [
        metrics_router(service.worker, settings),
        jobs_router(service.worker, user),
        audit_router(user),
        blobs_router,
        *service.routers,
    ]
    if settings.console_enabled:
        _add_console(app, service, settings)
    needs_database = Depends(_require_database)
    for router in routers:
        app.include_router(router, dependencies=[needs_database])
    if is_development:
        app.include_router(start_router(service, settings))  # the last, so `app` may have its own


def _add_console(app: FastAPI, service: Service, settings: Settings) -> None:
    # Before the service's routers, because one of them may answer all paths. If the service has
    # its own pages at these paths, they win.
    routes = [route for router in service.routers for route in router.routes]
    paths = [each.path or "" for each in iter_route_contexts(routes)]
    if any(map(is_console, paths)):
        hint = "rename them to get the console, or set CONSOLE_ENABLED=false"
        logger.warning(f"no console: the service has its own routes at {CONSOLE}; {hint}")
        return
    # Not at the top: if the console is off, its modules and templates are not loaded.
    from core.web.console import add_console

    if service.current_user is None:
        app.include_router(login_router, dependencies=[Depends(_require_database)])
    add_console(app, service, settings)


def _is_correlation_id(value: str) -> bool:
    """Whether a client's correlation id is safe in logs and headers."""
    return _CORRELATION_ID.fullmatch(value) is not None


async def _require_database(request: Request) -> None:
    request.app.state.database.require()

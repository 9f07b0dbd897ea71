"""The console: pages at `/console` for the people who look after the jobs."""

from fastapi import Depends, FastAPI

from core.config import Settings
from core.entry import Service
from core.web.console import actions, pages
from core.web.console.access import open_console
from core.web.console_port import CONSOLE
from core.web.pages import PathRouter


def add_console(app: FastAPI, service: Service, settings: Settings) -> None:
    """Add the pages of the console to an application."""
    router = PathRouter(CONSOLE, dependencies=[Depends(open_console(app, service, settings))])
    router.include_router(actions.router)
    router.include_router(pages.router)
    app.include_router(router, include_in_schema=False)

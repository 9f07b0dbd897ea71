"""An application with other settings, which shares the servers of `app`."""

from collections.abc import Callable
from typing import TypeAlias

import httpx2
from fastapi import FastAPI

from core.config import Settings
from core.entry import Service
from core.tests import service as tests_service
from core.web import create_app

OpenClient: TypeAlias = Callable[..., httpx2.AsyncClient]


def make_open_client(app: FastAPI, settings: Settings, monkeypatch) -> OpenClient:
    """Return a function that makes a client of an application.

    Args:
        app: The running application.
        settings: The settings of the test.
        monkeypatch: Changes the settings until the end of the test.
    """

    def open_client(
        service: Service = tests_service.service,
        root_path: str = "",
        host: str = "test",
        client: tuple[str, int] = ("127.0.0.1", 123),
        **changes: object,
    ) -> httpx2.AsyncClient:
        valid = Settings.model_validate({**settings.model_dump(), **changes})
        for name in changes:
            monkeypatch.setattr(settings, name, getattr(valid, name))
        changed = create_app(service, settings)
        changed.state.database = app.state.database
        transport = httpx2.ASGITransport(
            changed,
            raise_app_exceptions=False,
            root_path=root_path,
            client=client,
        )
        return httpx2.AsyncClient(transport=transport, base_url=f"https://{host}")

    return open_client

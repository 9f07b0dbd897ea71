"""The entry point: what the machinery needs to know of `app`, and how every process opens it."""

import sys
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from importlib import import_module
from typing import Any

from beanie import Document
from fastapi import APIRouter

from core.background import drain_background_tasks
from core.config import ROOT, Settings, SettingsError
from core.database import Database, open_database
from core.models import DOCUMENTS
from core.tasks import Worker


__all__ = ["Service", "open_service"]


@dataclass(frozen=True)
class Service:
    """What `app.main` says of itself.

    Attributes:
        documents: The documents of `app`; those of core are added.
        routers: What the web process serves.
        worker: The registry of tasks.
        current_user: A FastAPI dependency that returns the signed-in user; core's own where None. Yours has to call
            `TaskContext.set_actor(str(user.id))`, so that jobs belong to their users.
    """

    documents: Sequence[type[Document]]
    routers: Sequence[APIRouter]
    worker: Worker
    current_user: Callable[..., Any] | None = None

    def all_documents(self) -> list[type[Document]]:
        """Those of core, which its services use even where one of these subclasses them, and those of app."""
        return list(dict.fromkeys([*DOCUMENTS, *self.documents]))


def load_service(settings: Settings) -> Service:
    """Import the entry point that the setting `SERVICE` names.

    Raises:
        SettingsError: There is none.
    """
    module_name, _, attribute = settings.service.partition(":")
    if str(ROOT) not in sys.path:
        sys.path.insert(0, str(ROOT))
    try:
        module = import_module(module_name)
    except ModuleNotFoundError as error:
        if not f"{module_name}.".startswith(f"{error.name}."):
            raise  # it is there, and imports something that is not
        raise SettingsError(
            f"settings: SERVICE={settings.service} cannot be loaded: {error}"
        ) from error
    service = getattr(module, attribute, None)
    if not isinstance(service, Service):
        raise SettingsError(f"settings: SERVICE={settings.service} is not a core.entry.Service")
    return service


@asynccontextmanager
async def open_service(service: Service, settings: Settings) -> AsyncIterator[Database]:
    """Open database and queue for a block: in web, worker, tests and scripts alike.

    Args:
        service: The service, as `app.main` declares it.
        settings: The settings, from `core.config.get_settings`.

    Yields:
        The connection to the database.
    """
    async with (
        open_database(settings, service.all_documents()) as database,
        service.worker.open(settings),
    ):
        try:
            yield database
        finally:
            await drain_background_tasks(settings.task_grace_period)

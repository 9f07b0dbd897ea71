"""The service's entry point, which every process loads and opens."""

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
    """The parts of a service, as `app.main` declares them.

    Attributes:
        documents: The documents of `app`. The documents of `core` are added to them.
        routers: The routers of the web process.
        worker: The registry of tasks.
        current_user: A FastAPI dependency that returns the logged-in user. Defaults to the
            dependency in `core.web`. Another one must call `TaskContext.set_actor(str(user.id))`,
            so that jobs belong to their users.
    """

    documents: Sequence[type[Document]]
    routers: Sequence[APIRouter]
    worker: Worker
    current_user: Callable[..., Any] | None = None

    def all_documents(self) -> list[type[Document]]:
        """Return the documents of `core` and of `app`.

        The services in `core` use the documents of `core` even if `app` subclasses them.
        """
        documents: list[type[Document]] = [*DOCUMENTS, *self.documents]
        return list(dict.fromkeys(documents))


def load_service(settings: Settings) -> Service:
    """Import the entry point that the setting `SERVICE` names, and check its tasks.

    Args:
        settings: The service's settings.

    Raises:
        SettingsError: The entry point does not exist, or is not a `Service`.
        InvalidTask: A task cannot be used for jobs.
        ScheduleError: A schedule is broken, and this is not production.
    """
    module_name, _, attribute = settings.service.partition(":")
    if str(ROOT) not in sys.path:
        sys.path.insert(0, str(ROOT))
    problem = f"settings: SERVICE={settings.service}"
    try:
        module = import_module(module_name)
    except ModuleNotFoundError as error:
        if not _is_part_of(str(error.name), module_name):
            raise  # the entry point exists, but imports a missing module
        raise SettingsError(f"{problem} cannot be loaded: {error}") from error
    service = getattr(module, attribute, None)
    if not isinstance(service, Service):
        raise SettingsError(f"{problem} is not a core.entry.Service")
    # Before a server is needed, so the only output is the line that names the fault.
    service.worker.check(settings)
    return service


def _is_part_of(parent: str, module: str) -> bool:
    return f"{module}.".startswith(f"{parent}.")


@asynccontextmanager
async def open_service(service: Service, settings: Settings) -> AsyncIterator[Database]:
    """Open the database and the queue for a block, in any process, test or script.

    Args:
        service: The service, as `app.main` declares it.
        settings: The settings, from `core.config.get_settings`.

    Yields:
        The connection to the database.
    """
    documents = service.all_documents()
    async with (
        open_database(settings, documents) as database,
        service.worker.open(settings),
    ):
        try:
            yield database
        finally:
            await drain_background_tasks(settings.task_grace_period)
